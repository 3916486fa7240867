//! Locks in shared memory that survive their owner.
//!
//! The kernel walks a thread's list of held locks when the thread ends, however it ends, and marks each as died: the next one who takes such a lock
//! is told so and repairs what it protects. glibc's robust mutexes use the same list, but keep pointers in the shared memory and follow them when they
//! unlock; a process of less trust could so make a privileged one write anywhere. Here nothing that was read from the shared memory is followed by us;
//! the kernel follows it, in the address space of the thread that ends.
//!
//! The word holds the owner's thread id, as the kernel wants it. Ids are those of the owner's pid namespace, so two owners may have the same one; a thread is
//! therefore announced to the kernel only for as long as it takes to try the word once, and while it holds the lock.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, compiler_fence};
use std::time::{Duration, Instant};

/// What a lock occupies: a cache line, zero at first.
pub type LockCells = [AtomicU32; 16];

/// Tries before a thread goes to sleep: about as long as a short critical section.
const SPINS: u32 = 100;
/// The longest sleep at a time. A wake-up that got lost with the death of who was woken costs no more than this.
const NAP: Duration = Duration::from_millis(2);

/// Whoever holds the lock did not give it back in time: it is stopped, or the word is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lock's holder does not give it back")]
pub struct Busy;

/// A lock that this thread holds until it is dropped. Locks are dropped in the reverse order of their taking.
#[derive(Debug)]
pub struct Held<'l> {
    cells: &'l LockCells,
    me: Me,
    /// What the thread's list began with before.
    outer: usize,
    owner_died: bool,
    /// The list is the thread's own.
    not_send: PhantomData<*const ()>,
}

/// Takes the lock, waiting `patience` at most. A thread that holds it already waits in vain.
pub fn lock(cells: &LockCells, patience: Duration) -> Result<Held<'_>, Busy> {
    let me = Me::current();
    let word = &cells[0];
    let mut tries = 0u32;
    let mut slept = 0;
    let mut deadline = None;
    loop {
        let seen = word.load(Relaxed);
        if seen & libc::FUTEX_TID_MASK == 0 {
            if let Some(held) = me.try_take(cells, seen, slept) {
                return Ok(held);
            }
        }
        tries += 1;
        if tries < SPINS {
            std::hint::spin_loop();
            continue;
        }
        let now = Instant::now();
        let left = deadline.get_or_insert(now + patience).saturating_duration_since(now);
        if left.is_zero() {
            return Err(Busy);
        }
        if seen & libc::FUTEX_TID_MASK != 0 {
            let marked = seen | libc::FUTEX_WAITERS;
            if seen == marked || word.compare_exchange(seen, marked, Relaxed, Relaxed).is_ok() {
                wait(word, marked, left.min(NAP));
                slept = libc::FUTEX_WAITERS;
            }
        }
    }
}

/// Whether the lock's last owner died and nobody took it since.
pub fn owner_died(cells: &LockCells) -> bool {
    cells[0].load(Relaxed) & (libc::FUTEX_TID_MASK | libc::FUTEX_OWNER_DIED) == libc::FUTEX_OWNER_DIED
}

impl Held<'_> {
    /// The thread that had the lock before ended while it had it: what it was changing may be half done.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.me.announce(self.cells);
        self.me.unlist(self.cells, self.outer);
        if self.cells[0].swap(0, Release) & libc::FUTEX_WAITERS != 0 {
            wake_one(&self.cells[0]);
        }
        self.me.withdraw();
    }
}

/// An id of the calling thread that no other thread of its pid namespace has.
#[inline]
pub fn thread_id() -> u32 {
    Me::current().tid
}

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    list: usize,
    futex_offset: libc::c_long,
    pending: usize,
}

/// What a thread knows of itself, valid in one process: a fork changes the id.
#[derive(Debug, Clone, Copy)]
struct Me {
    tid: u32,
    epoch: u64,
    /// Null where the kernel keeps no list for us: then locks work, but are not freed by a death.
    head: *mut Head,
    /// From a lock's word to its entry in the list, bytes.
    to_entry: usize,
}

thread_local! {
    static ME: Cell<Me> = const { Cell::new(Me { tid: 0, epoch: 0, head: std::ptr::null_mut(), to_entry: 0 }) };
}

impl Me {
    #[inline]
    fn current() -> Self {
        let me = ME.get();
        let epoch = epoch();
        if me.epoch == epoch && epoch != 0 { me } else { Self::look(epoch) }
    }

    #[cold]
    fn look(epoch: u64) -> Self {
        // SAFETY: no arguments, cannot fail.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        let head = robust_head().unwrap_or(std::ptr::null_mut());
        // SAFETY: the head is libc's, for this thread, and lives as long as the thread.
        let offset = if head.is_null() { 0 } else { unsafe { (*head).futex_offset } };
        let to_entry = usize::try_from(-offset).unwrap_or(0);
        let usable = (4..=56).contains(&to_entry) && to_entry % 4 == 0;
        let me = Self { tid, epoch, head: if usable { head } else { std::ptr::null_mut() }, to_entry };
        ME.set(me);
        me
    }

    /// One try to change the word from `seen`, which has no owner.
    #[inline]
    fn try_take<'l>(&self, cells: &'l LockCells, seen: u32, slept: u32) -> Option<Held<'l>> {
        self.announce(cells);
        let mine = self.tid | (seen & libc::FUTEX_WAITERS) | slept;
        if cells[0].compare_exchange(seen, mine, Acquire, Relaxed).is_err() {
            self.withdraw();
            return None;
        }
        let outer = self.enlist(cells);
        self.withdraw();
        Some(Held { cells, me: *self, outer, owner_died: seen & libc::FUTEX_OWNER_DIED != 0, not_send: PhantomData })
    }

    fn entry(&self, cells: &LockCells) -> usize {
        cells.as_ptr() as usize + self.to_entry
    }

    /// Tells the kernel which lock this thread is about to take or give back. Should the thread end here, the kernel looks at the word.
    #[inline]
    fn announce(&self, cells: &LockCells) {
        self.set_pending(self.entry(cells));
    }

    #[inline]
    fn withdraw(&self) {
        self.set_pending(0);
    }

    #[inline]
    fn set_pending(&self, entry: usize) {
        compiler_fence(SeqCst);
        if !self.head.is_null() {
            // SAFETY: this thread's own head; only the thread itself and, at its end, the kernel look at it.
            unsafe { (&raw mut (*self.head).pending).write_volatile(entry) };
        }
        compiler_fence(SeqCst);
    }

    /// Puts the lock in front of the thread's list; what was in front.
    #[inline]
    fn enlist(&self, cells: &LockCells) -> usize {
        if self.head.is_null() {
            return 0;
        }
        // SAFETY: as in `set_pending`.
        let outer = unsafe { (&raw const (*self.head).list).read_volatile() };
        let at = self.to_entry / 4;
        cells[at].store(outer as u32, Relaxed);
        cells[at + 1].store((outer as u64 >> 32) as u32, Relaxed);
        compiler_fence(SeqCst);
        // SAFETY: as in `set_pending`.
        unsafe { (&raw mut (*self.head).list).write_volatile(self.entry(cells)) };
        outer
    }

    #[inline]
    fn unlist(&self, cells: &LockCells, outer: usize) {
        if self.head.is_null() {
            return;
        }
        // SAFETY: as in `set_pending`.
        unsafe {
            let list = &raw mut (*self.head).list;
            if list.read_volatile() == self.entry(cells) {
                list.write_volatile(outer);
            }
        }
        compiler_fence(SeqCst);
    }
}

/// The list that libc told the kernel about for this thread.
fn robust_head() -> Option<*mut Head> {
    let mut head: *mut Head = std::ptr::null_mut();
    let mut length = 0usize;
    // SAFETY: both pointers are to locals of the size that the kernel writes.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    (result == 0 && !head.is_null() && length == size_of::<Head>()).then_some(head)
}

/// A number that differs between a process and those forked from it; 0 if that cannot be known here.
#[inline]
fn epoch() -> u64 {
    static CELL: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    let Some(cell) = CELL.get_or_init(wiped_on_fork) else { return 0 };
    match cell.load(Relaxed) {
        0 => next_epoch(cell),
        epoch => epoch,
    }
}

#[cold]
fn next_epoch(cell: &AtomicU64) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let epoch = LAST.fetch_add(1, Relaxed) + 1;
    cell.compare_exchange(0, epoch, Relaxed, Relaxed).map_or_else(|other| other, |_| epoch)
}

/// A cell that the kernel zeroes in every child, by whatever call it was forked.
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    const PAGE: usize = 4096;
    // SAFETY: a fresh private mapping, never unmapped; madvise is told of exactly this mapping.
    unsafe {
        let page =
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if page == libc::MAP_FAILED || libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) != 0 {
            return None;
        }
        Some(&*page.cast::<AtomicU64>())
    }
}

fn wait(word: &AtomicU32, expected: u32, time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos() as libc::c_long };
    // SAFETY: the word and the time live across the call; the kernel only reads them.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const time) };
}

fn wake_one(word: &AtomicU32) {
    // SAFETY: the word lives across the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Whether the death of an owner is noticed on this system: what [`lock`] promises depends on it.
pub fn deaths_are_noticed() -> io::Result<()> {
    if Me::current().head.is_null() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel keeps no robust list for this process"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::fork;
    use crate::segment::Segment;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;
    use nix::unistd::ForkResult;

    const PATIENT: Duration = Duration::from_secs(10);

    fn cells(segment: &Segment, number: usize) -> &LockCells {
        segment.u32s(number * 64, 16).try_into().expect("16 cells")
    }

    /// Runs `work` in a child, which ends when it returns.
    fn child(work: impl FnOnce()) -> nix::unistd::Pid {
        // SAFETY: the child touches shared memory and ends; it takes no lock of the runtime's.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                work();
                // SAFETY: ends the process at once, without the test harness's handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }

    #[test]
    fn a_lock_excludes_others_and_comes_back() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let held = lock(cells(&segment, 0), PATIENT).expect("free");
        assert!(!held.owner_died());
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(lock(cells(&segment, 0), Duration::from_millis(5)).err(), Some(Busy)));
        });
        drop(held);
        assert!(lock(cells(&segment, 0), Duration::ZERO).is_ok());
    }

    #[test]
    fn the_next_owner_learns_of_a_death_with_two_locks_held() {
        deaths_are_noticed().expect("robust lists");
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let pid = child(|| {
            let outer = lock(cells(&segment, 0), PATIENT);
            let inner = lock(cells(&segment, 1), PATIENT);
            std::mem::forget((outer, inner));
        });
        waitpid(pid, None).expect("wait");
        for number in 0..2 {
            let held = lock(cells(&segment, number), PATIENT).expect("freed by the kernel");
            assert!(held.owner_died(), "lock {number}");
            drop(held);
            assert!(!lock(cells(&segment, number), PATIENT).expect("free").owner_died());
        }
    }

    #[test]
    fn a_lock_given_back_is_not_taken_for_dead() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let pid = child(|| drop((lock(cells(&segment, 0), PATIENT), lock(cells(&segment, 1), PATIENT))));
        waitpid(pid, None).expect("wait");
        assert!(!lock(cells(&segment, 0), PATIENT).expect("free").owner_died());
    }

    #[test]
    fn a_waiter_gets_the_lock_of_who_is_killed() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let flag = &segment.u32s(2048, 1)[0];
        let pid = child(|| {
            let held = lock(cells(&segment, 0), PATIENT);
            flag.store(1, Release);
            loop {
                std::thread::sleep(Duration::from_secs(1));
                std::hint::black_box(&held);
            }
        });
        while flag.load(Acquire) == 0 {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock(cells(&segment, 0), PATIENT).map(|held| held.owner_died()));
            std::thread::sleep(Duration::from_millis(20));
            kill(pid, Signal::SIGKILL).expect("kill");
            assert_eq!(waiter.join().expect("thread"), Ok(true));
        });
        waitpid(pid, None).expect("wait");
    }

    #[test]
    fn a_forked_thread_has_an_id_of_its_own() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let mine = thread_id();
        let theirs = &segment.u32s(0, 1)[0];
        let pid = child(|| theirs.store(thread_id(), Relaxed));
        waitpid(pid, None).expect("wait");
        assert_eq!(theirs.load(Relaxed), pid.as_raw() as u32);
        assert_ne!(mine, theirs.load(Relaxed));
    }

    #[test]
    fn nothing_is_lost_between_many() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        let count = &segment.u64s(1024, 1)[0];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let _held = lock(cells(&segment, 0), PATIENT).expect("comes back");
                        count.store(count.load(Relaxed) + 1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(count.load(Relaxed), 80_000);
    }
}
