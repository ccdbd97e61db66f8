//! Readiness of many sockets for a thread of its own: epoll, level-triggered, an eventfd to wake it, a timerfd to tick.
//!
//! In: borrowed descriptors with a key each. Out: the keys that are ready. The caller keeps a descriptor open while it is
//! registered; the kernel forgets closed ones.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a flag and touches no memory.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just gave this descriptor to us alone.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Reports `key` whenever `source` is readable.
    ///
    /// # Errors
    /// Already in the set, or the kernel's limit of watches (`fs.epoll.max_user_watches`) is reached.
    pub fn add(&self, source: &impl AsFd, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source, key)
    }

    /// Changes the key of `source`.
    ///
    /// # Errors
    /// Not in the set.
    pub fn modify(&self, source: &impl AsFd, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source, key)
    }

    /// Forgets `source`.
    ///
    /// # Errors
    /// Not in the set.
    pub fn remove(&self, source: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, source, 0)
    }

    /// Waits until something is ready or `timeout` (rounded up to milliseconds; `None`: for ever) has passed, and fills
    /// `events`. A signal ends the wait with no events.
    ///
    /// # Errors
    /// None that a valid set can have; passed on should the kernel invent one.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout
            .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        events.ready = 0;
        // SAFETY: the kernel writes at most `list.len()` events to memory exclusively borrowed here.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                events.list.as_mut_ptr(),
                events.list.len() as libc::c_int,
                timeout,
            )
        };
        match check(count) {
            Ok(count) => events.ready = count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(events.ready)
    }

    fn control(&self, operation: libc::c_int, source: &impl AsFd, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        let fd = source.as_fd().as_raw_fd();
        // SAFETY: the event lives over the call, and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) }).map(|_| ())
    }
}

/// Room for the answers of [`Epoll::wait`].
pub struct Events {
    list: Box<[libc::epoll_event]>,
    ready: usize,
}

impl Events {
    /// At most `capacity` (1 to 65536) answers per wait.
    pub fn new(capacity: usize) -> Self {
        let list = vec![libc::epoll_event { events: 0, u64: 0 }; capacity.clamp(1, 65_536)];
        Self { list: list.into_boxed_slice(), ready: 0 }
    }

    /// The `index`-th key of the last wait. `None` beyond its count.
    pub fn key(&self, index: usize) -> Option<u64> {
        self.list[..self.ready].get(index).map(|event| event.u64)
    }

    /// The keys of the last wait.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.list[..self.ready].iter().map(|event| event.u64)
    }
}

/// A counter in the kernel that makes another thread's [`Epoll::wait`] return.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A counter at zero.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes numbers and touches no memory.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just gave this descriptor to us alone.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes it readable.
    pub fn notify(&self) {
        let one: u64 = 1;
        // SAFETY: eight bytes of a local are read. The only error is a full counter, and then it is readable anyway.
        unsafe { libc::write(self.fd.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
    }

    /// Makes it unreadable; whether it had been notified.
    pub fn drain(&self) -> bool {
        let mut count: u64 = 0;
        // SAFETY: eight bytes of a local are written. The only error is an empty counter.
        let length = unsafe { libc::read(self.fd.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
        length == 8
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A clock in the kernel that is readable once per period: a waiting thread needs no time-out, which would cost every wait
/// a timer.
#[derive(Debug)]
pub struct Ticker {
    fd: OwnedFd,
}

impl Ticker {
    /// Readable `period` (at least a microsecond) from now and then each time that it has passed.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn every(period: Duration) -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes numbers and touches no memory.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel just gave this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let period = period.max(Duration::from_micros(1));
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(period.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: period.subsec_nanos().into(),
        };
        let timer = libc::itimerspec { it_interval: time, it_value: time };
        // SAFETY: the kernel reads one structure; a null pointer says that the old value is not wanted.
        check(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const timer, ptr::null_mut()) })?;
        Ok(Self { fd })
    }

    /// Makes it unreadable until the next period; how many have passed since the last time.
    pub fn drain(&self) -> u64 {
        let mut count: u64 = 0;
        // SAFETY: eight bytes of a local are written. The only error is that no period has passed.
        let length = unsafe { libc::read(self.fd.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
        if length == 8 { count } else { 0 }
    }
}

impl AsFd for Ticker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::sync::Arc;

    #[test]
    fn a_readable_socket_reports_its_key_until_it_is_read_or_removed() {
        let epoll = Epoll::new().unwrap();
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        epoll.add(&far, 7).unwrap();
        assert!(epoll.add(&far, 8).is_err());
        let mut events = Events::new(4);
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        near.send_to(b"x", far.local_addr().unwrap()).unwrap();
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!((events.key(0), events.key(1)), (Some(7), None));
        epoll.modify(&far, 9).unwrap();
        epoll.wait(&mut events, None).unwrap();
        assert_eq!(events.keys().collect::<Vec<_>>(), [9], "level-triggered: not read yet");
        epoll.remove(&far).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        assert!(epoll.remove(&far).is_err());
    }

    #[test]
    fn a_ticker_is_readable_once_per_period() {
        let epoll = Epoll::new().unwrap();
        let ticker = Ticker::every(Duration::from_millis(1)).unwrap();
        epoll.add(&ticker, 1).unwrap();
        let mut events = Events::new(1);
        for _ in 0..3 {
            assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
            assert!(ticker.drain() >= 1);
        }
        let slow = Ticker::every(Duration::from_secs(3600)).unwrap();
        assert_eq!(slow.drain(), 0);
    }

    #[test]
    fn an_event_wakes_another_thread_once() {
        let epoll = Epoll::new().unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        epoll.add(event.as_ref(), 1).unwrap();
        assert!(!event.drain());
        let notifier = std::thread::spawn({
            let event = Arc::clone(&event);
            move || {
                event.notify();
                event.notify();
            }
        });
        let mut events = Events::new(1);
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        notifier.join().unwrap();
        assert!(event.drain());
        assert!(!event.drain());
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }
}
