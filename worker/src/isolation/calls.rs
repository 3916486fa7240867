//! The lists of system calls behind `seccomp = default` and `seccomp = strict`.

/// Refused by both with EPERM: what changes the machine, its kernel or its mounts, looks into other processes, or reaches parts of the kernel in
/// which most of its holes have been and that no web app needs.
pub const DENIED: &str = "
    init_module finit_module delete_module create_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl quotactl_fd
    mount umount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr
    unshare setns bpf perf_event_open userfaultfd fanotify_init open_by_handle_at lookup_dcookie
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    keyctl add_key request_key
    io_uring_setup io_uring_enter io_uring_register
    settimeofday clock_settime clock_adjtime adjtimex stime sethostname setdomainname syslog vhangup
    iopl ioperm modify_ldt uselib ustat sysfs _sysctl nfsservctl vm86 vm86old vserver";

/// The flags of `clone` that make a namespace: CLONE_NEWTIME (shares its bit with the exit signal, so that it is no flag of `clone`) is left out.
pub const CLONE_NAMESPACES: [u64; 7] = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// `ioctl`s that put words into a terminal: TIOCSTI and TIOCLINUX.
pub const TERMINAL_IOCTLS: [u64; 2] = [0x5412, 0x541c];

/// AF_VSOCK: the hypervisor's.
pub const VSOCK: u64 = 40;

/// Socket families of `strict`: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (`getaddrinfo` needs it).
pub const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// The personalities that change nothing: Linux's own, and the question which one it is.
pub const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];

/// What `strict` allows; everything else, also what later kernels bring, is answered as by a kernel that has it not (ENOSYS).
pub const ALLOWED: &str = "
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres clock_gettime clock_nanosleep clone close
    close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown
    fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait
    futex_waitv futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
    gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat
    listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise mbind membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod
    mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 pause personality pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall riscv_hwprobe
    rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg
    sendmsg sendto set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown
    sigaltstack signalfd signalfd4 socket socketpair splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask
    uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev";
