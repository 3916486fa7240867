//! What a master can be told to do while it runs: by a signal, the FIFO, a touched file, the emperor or an app.

/// One order. Who gave it is of no importance to what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Graceful: running requests are finished. (HUP, FIFO `r`, `touch-reload`, `fs-reload`, `uwsgi.reload()`.)
    Reload,
    /// Running requests are cut. (TERM with `die-on-term = false`, FIFO `R`, `fs-brutal-reload`.)
    BrutalReload,
    /// The workers only, without reading the configuration. (FIFO `w`, `touch-workers-reload`.)
    ReloadWorkers,
    /// FIFO `W`.
    BrutalReloadWorkers,
    /// One worker after the other, the next when the last one accepts. (FIFO `c`, `touch-chain-reload`.)
    ChainReload,
    /// Cut running requests. (INT, FIFO `Q`, `uwsgi.stop()`.)
    Stop,
    /// Finish running requests. (FIFO `q`, `touch-gracefully-stop`.)
    GracefulStop,
    /// A second one resumes. (TSTP, FIFO `p`.)
    PauseOrResume,
    /// FIFO `+` and `-`.
    OneWorkerMore,
    OneWorkerLess,
    /// FIFO `C`: all workers go, the first connection brings them back.
    Cheap,
    /// Counters to the log. (USR1, FIFO `s`.)
    Report,
    /// FIFO `P`.
    WritePidfiles,
    /// FIFO `B`: ask the emperor for reinforcements.
    Reinforcements,
    /// FIFO `E`: have the emperor that is part of this instance look at its sources now.
    EmperorRescan,
    /// FIFO `f`, which is uWSGI's second master on the same sockets. There is none: a reload has the new one beside the old one.
    ForkMaster,
    /// FIFO `S`. There are no subscriptions yet.
    BlockSubscriptions,
}
