//! What a thread may ask of the machine: a core of its own, and the process's number of open files.
//!
//! In: core numbers as the kernel counts them. Out: what is allowed.

use std::io;
use std::mem;

/// The cores that this thread may run on, ascending; at least one.
pub fn cores() -> Vec<usize> {
    // SAFETY: a set of cores is an array of integers; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) };
    if result < 0 {
        return vec![0]; // more cores than the set can tell
    }
    let limit = mem::size_of_val(&set) * 8;
    // SAFETY: reads one bit of the set, within its size.
    let mut cores: Vec<usize> = (0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect();
    if cores.is_empty() {
        cores.push(0);
    }
    cores
}

/// Ties the calling thread to one core.
///
/// # Errors
/// The core does not exist or this process may not use it.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a set of cores is an array of integers; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if core >= mem::size_of_val(&set) * 8 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: sets one bit, checked above to lie within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets other threads of this process go first where cores are scarce: about a tenth of one is left then.
///
/// # Errors
/// The kernel refuses, which it does for no thread that lowers itself.
pub fn yield_to_others() -> io::Result<()> {
    const NICE: libc::c_int = 10;
    // SAFETY: changes a number that the scheduler keeps; on Linux 0 with PRIO_PROCESS is the calling thread alone.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the process's soft limit of open files to the hard one and returns what then holds. A relay needs four
/// descriptors for each plain call.
///
/// # Errors
/// The kernel refuses to tell the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the kernel reads one structure.
    if limit.rlim_cur < limit.rlim_max
        && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0
    {
        limit.rlim_cur = limit.rlim_max;
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_tied_to_each_of_its_cores() {
        let all = cores();
        for &core in &all {
            std::thread::spawn(move || {
                pin(core).unwrap();
                assert_eq!(cores(), [core]);
            })
            .join()
            .unwrap();
        }
        assert_eq!(cores(), all, "other threads are not touched");
        assert!(pin(usize::MAX).is_err());
    }

    #[test]
    fn the_limit_of_open_files_is_at_its_height_after_raising() {
        assert!(raise_open_files().unwrap() > 0);
        assert_eq!(raise_open_files().unwrap(), raise_open_files().unwrap());
    }
}
