//! Clusters of instances that choose a lord.

use super::{Row, int, later, list, long, text};

const LEGION: &str = "use keepalived, or what your cluster has";

pub const OPTIONS: &[Row] = &[
    list("legion", &[], "join a legion", later(LEGION)).with_master(),
    list("legion-mcast", &[], "join a legion by multicast", later(LEGION)).with_master(),
    list("legion-node", &[], "a member", later(LEGION)).with_master(),
    int("legion-freq", &[], "seconds between messages", later(LEGION)),
    int("legion-tolerance", &[], "seconds before a silent member is dropped", later(LEGION)),
    int("legion-death-on-lord-error", &[], "seconds of penance for a lord that failed", later(LEGION)),
    int("legion-skew-tolerance", &[], "seconds that clocks may differ", later(LEGION)),
    list("legion-lord", &[], "what to do when we become lord", later(LEGION)),
    list("legion-unlord", &[], "what to do when we are lord no longer", later(LEGION)),
    list("legion-setup", &[], "what to do at the start", later(LEGION)),
    list("legion-death", &[], "what to do at the end", later(LEGION)),
    list("legion-join", &[], "what to do when we have joined", later(LEGION)),
    list("legion-node-joined", &[], "what to do when a member comes", later(LEGION)),
    list("legion-node-left", &[], "what to do when a member goes", later(LEGION)),
    list("legion-quorum", &[], "members that a lord needs", later(LEGION)),
    list("legion-scroll", &[], "what to tell the others", later(LEGION)),
    int("legion-scroll-max-size", &[], "bytes of it", later(LEGION)),
    long("legion-scroll-list-max-size", &[], "bytes of all of it", later(LEGION)),
    list("legion-attach-daemon", &[], "a daemon of the lord", later(LEGION)),
    list("legion-smart-attach-daemon", &[], "a smart daemon of the lord", later(LEGION)),
    list("legion-smart-attach-daemon2", &[], "the same, and its pidfile is ours", later(LEGION)),
    text("udp", &[], "an address for messages", later(LEGION)),
    text("multicast", &[], "a group for messages", later(LEGION)),
    int("multicast-ttl", &[], "how far they go", later(LEGION)),
    int("multicast-loop", &[], "whether we hear ourselves", later(LEGION)),
];
