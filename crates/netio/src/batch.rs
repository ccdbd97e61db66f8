//! Many datagrams in one system call (recvmmsg, sendmmsg) over buffers made once.
//!
//! In: a borrowed socket. Out: how many datagrams moved, and views of those received. Sockets may be blocking or not: no
//! call here ever waits. Elsewhere: readiness ([`crate::poll`], or an async runtime's).

use crate::address::{RAW_ADDR_LEN, RawAddr};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

/// How often in a row a call is repeated because the kernel reported an ICMP error of an earlier datagram, or a signal.
const REPEATS_MAX: usize = 16;

/// Words of control data per datagram: one `cmsghdr` with a `timespec`.
const CONTROL_WORDS: usize = 8;

/// Slots for received datagrams; reused by every call of [`RecvBatch::recv`].
pub struct RecvBatch {
    bytes: Box<[u8]>,
    size: usize,
    froms: Box<[RawAddr]>,
    /// One block per slot; empty when timestamps are not wanted.
    controls: Box<[[u64; CONTROL_WORDS]]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its payload, cut off at the slot's size.
    pub bytes: &'a [u8],
    /// Its source.
    pub from: SocketAddr,
    /// It was longer than the slot.
    pub truncated: bool,
    /// When the kernel received it, since the Unix epoch; only from a socket with [`enable_timestamps`] and a batch
    /// [`RecvBatch::with_timestamps`].
    pub timestamp: Option<Duration>,
}

// SAFETY: the raw pointers in `vectors` and `headers` point into the other boxes of the same value, are written afresh by
// every `recv` before use and are never followed outside it.
unsafe impl Send for RecvBatch {}
// SAFETY: as above; a shared reference gives out nothing but bytes that no shared method changes.
unsafe impl Sync for RecvBatch {}

impl RecvBatch {
    /// `slots` datagrams (1 to 1024) of up to `size` bytes each.
    pub fn new(slots: usize, size: usize) -> Self {
        Self::make(slots, size, false)
    }

    /// The same, with room for kernel receive timestamps.
    pub fn with_timestamps(slots: usize, size: usize) -> Self {
        Self::make(slots, size, true)
    }

    fn make(slots: usize, size: usize, timestamps: bool) -> Self {
        let slots = slots.clamp(1, 1024);
        let size = size.max(1);
        Self {
            bytes: vec![0; slots * size].into_boxed_slice(),
            size,
            froms: vec![RawAddr::zeroed(); slots].into_boxed_slice(),
            controls: vec![[0; CONTROL_WORDS]; if timestamps { slots } else { 0 }].into_boxed_slice(),
            vectors: vec![EMPTY_VECTOR; slots].into_boxed_slice(),
            headers: vec![EMPTY_HEADER; slots].into_boxed_slice(),
            received: 0,
        }
    }

    /// How many datagrams one call can bring.
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Receives what is there, at most as many datagrams as there are slots; 0 when nothing waits. Earlier contents are
    /// gone. Errors that ICMP brought for datagrams sent earlier are taken off the socket and skipped.
    ///
    /// # Errors
    /// What the kernel says of the socket itself (not a socket, out of memory).
    pub fn recv(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.recv_at_most(socket, self.slots())
    }

    /// As [`RecvBatch::recv`] with a smaller bound, for a socket that seldom has more than one datagram waiting.
    ///
    /// # Errors
    /// As [`RecvBatch::recv`].
    pub fn recv_at_most(&mut self, socket: &impl AsFd, bound: usize) -> io::Result<usize> {
        let bound = bound.clamp(1, self.slots());
        self.received = 0;
        let fd = socket.as_fd().as_raw_fd();
        for _ in 0..REPEATS_MAX {
            let count = if bound == 1 { self.call_single(fd) } else { self.call_many(fd, bound) };
            match count {
                Ok(count) => {
                    self.received = count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// The `index`-th datagram of the last call. `None` beyond its count.
    pub fn get(&self, index: usize) -> Option<Received<'_>> {
        if index >= self.received {
            return None;
        }
        let header = &self.headers[index];
        let start = index * self.size;
        let length = (header.msg_len as usize).min(self.size);
        Some(Received {
            bytes: &self.bytes[start..start + length],
            from: self.froms[index].to_addr()?,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            timestamp: self.timestamp(index),
        })
    }

    /// All datagrams of the last call whose source is known.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.received).filter_map(|index| self.get(index))
    }

    /// Lets the first `bound` headers point at their slots.
    fn point(&mut self, bound: usize) {
        for (vector, slot) in self.vectors[..bound].iter_mut().zip(self.bytes.chunks_exact_mut(self.size)) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        }
        for index in 0..bound {
            let control = self.controls.get_mut(index);
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.froms[index]).cast();
            header.msg_namelen = RAW_ADDR_LEN;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_controllen =
                control.as_ref().map_or(0, |words| mem::size_of_val::<[u64]>(*words) as _);
            header.msg_control = control.map_or(ptr::null_mut(), |words| words.as_mut_ptr().cast());
            header.msg_flags = 0;
        }
    }

    fn call_many(&mut self, fd: RawFd, bound: usize) -> io::Result<usize> {
        self.point(bound);
        // SAFETY: `point` set `bound` headers to slots, names and control blocks owned by `self` and exclusively borrowed
        // here; the kernel writes within the lengths given beside them. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                bound as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn call_single(&mut self, fd: RawFd) -> io::Result<usize> {
        let length = if self.controls.is_empty() {
            let (slot, from) = (&mut self.bytes[..self.size], &mut self.froms[0]);
            let mut from_length = RAW_ADDR_LEN;
            // SAFETY: the kernel writes at most `slot.len()` bytes to the slot and at most `from_length` to the name, both
            // exclusively borrowed here. With MSG_TRUNC it returns the datagram's whole length.
            let length = unsafe {
                libc::recvfrom(
                    fd,
                    slot.as_mut_ptr().cast(),
                    slot.len(),
                    libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                    ptr::from_mut(from).cast(),
                    &raw mut from_length,
                )
            };
            let is_cut = usize::try_from(length).is_ok_and(|length| length > slot.len());
            self.headers[0].msg_hdr.msg_flags = if is_cut { libc::MSG_TRUNC } else { 0 };
            length
        } else {
            self.point(1);
            let header = &mut self.headers[0];
            // SAFETY: as in `call_many`, for the first header alone.
            unsafe { libc::recvmsg(fd, &raw mut header.msg_hdr, libc::MSG_DONTWAIT) }
        };
        self.headers[0].msg_len = u32::try_from(length).map_err(|_| io::Error::last_os_error())?;
        Ok(1)
    }

    fn timestamp(&self, index: usize) -> Option<Duration> {
        let control = self.controls.get(index)?;
        let mut header = self.headers[index].msg_hdr;
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = header.msg_controllen.min(mem::size_of_val(control) as _);
        // SAFETY: `header` describes a control block that lives as long as `self`, no longer than its memory; the CMSG
        // functions only read it. The data is read unaligned, within the length that the kernel gave.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header);
            while !message.is_null() {
                let is_time = (*message).cmsg_level == libc::SOL_SOCKET
                    && (*message).cmsg_type == libc::SCM_TIMESTAMPNS
                    && (*message).cmsg_len as usize
                        >= libc::CMSG_LEN(mem::size_of::<libc::timespec>() as libc::c_uint) as usize;
                if is_time {
                    let time: libc::timespec = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    let seconds = u64::try_from(time.tv_sec).ok()?;
                    return Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?));
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        None
    }
}

/// Headers for datagrams being sent; reused by every call of [`SendBatch::send`].
pub struct SendBatch {
    tos: Box<[RawAddr]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers are written afresh by every `send` before use and are never followed outside it.
unsafe impl Send for SendBatch {}
// SAFETY: no shared method follows or changes the pointers.
unsafe impl Sync for SendBatch {}

impl SendBatch {
    /// Up to `slots` datagrams (1 to 1024) per call.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, 1024);
        Self {
            tos: vec![RawAddr::zeroed(); slots].into_boxed_slice(),
            vectors: vec![EMPTY_VECTOR; slots].into_boxed_slice(),
            headers: vec![EMPTY_HEADER; slots].into_boxed_slice(),
        }
    }

    /// How many datagrams one call can take.
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Sends datagrams from the front of `messages`, at most as many as there are slots, and says how many the kernel
    /// took: fewer than given when the socket's buffer filled up (0: it was full) or one in the middle was refused. Errors
    /// that ICMP brought for datagrams sent earlier are taken off the socket and skipped.
    ///
    /// # Errors
    /// The first datagram cannot be sent (no route, too long, refused by a filter): skip it and go on with the next.
    pub fn send<'a>(
        &mut self,
        socket: &impl AsFd,
        messages: impl IntoIterator<Item = (&'a [u8], SocketAddr)>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((bytes, to), index) in messages.into_iter().zip(0..self.slots()) {
            let (raw, length) = RawAddr::from_addr(to);
            self.tos[index] = raw;
            self.vectors[index] =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            self.headers[index].msg_hdr.msg_namelen = length;
            count = index + 1;
        }
        if count > 1 {
            for index in 0..count {
                let header = &mut self.headers[index].msg_hdr;
                header.msg_name = ptr::from_mut(&mut self.tos[index]).cast();
                header.msg_iov = &raw mut self.vectors[index];
                header.msg_iovlen = 1;
            }
        }
        if count == 0 { Ok(0) } else { self.call(socket.as_fd().as_raw_fd(), count) }
    }

    fn call(&mut self, fd: RawFd, count: usize) -> io::Result<usize> {
        let mut last = None;
        for _ in 0..REPEATS_MAX {
            let sent = if count == 1 {
                let (vector, to) = (&self.vectors[0], &self.tos[0]);
                let to_length = self.headers[0].msg_hdr.msg_namelen;
                // SAFETY: the vector names bytes that the caller of `send` keeps borrowed (`'a` outlives the call), the
                // address and its length are those of `from_addr`; the kernel only reads.
                let length = unsafe {
                    libc::sendto(
                        fd,
                        vector.iov_base,
                        vector.iov_len,
                        SEND_FLAGS,
                        ptr::from_ref(to).cast(),
                        to_length,
                    )
                };
                if length < 0 { -1 } else { 1 }
            } else {
                // SAFETY: as above, for `count` headers; `msg_len` of each is written within `self`.
                unsafe {
                    libc::sendmmsg(fd, self.headers.as_mut_ptr(), count as libc::c_uint, SEND_FLAGS as _)
                }
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS) {
                return Ok(0);
            }
            if !is_passing(&error) {
                return Err(error);
            }
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::Other)))
    }
}

/// Asks the kernel for receive timestamps on a socket (SO_TIMESTAMPNS). They cost something per datagram.
///
/// # Errors
/// Not a socket.
pub fn enable_timestamps(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that lives over the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

// SAFETY: null pointers and zero lengths are valid values of every member (some libcs have private padding, so the
// structure cannot be written out).
const EMPTY_HEADER: libc::mmsghdr = unsafe { mem::zeroed() };

/// Errors that say something of an earlier datagram (ICMP) or of a signal, and are gone once reported.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ECONNREFUSED | libc::ECONNRESET | libc::EHOSTDOWN | libc::EPROTO)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    fn pair(host: &str) -> (UdpSocket, UdpSocket) {
        let bind = || UdpSocket::bind((host, 0)).unwrap();
        (bind(), bind())
    }

    /// Waits until the socket is readable, by a blocking peek.
    fn wait(socket: &UdpSocket) {
        socket.peek_from(&mut [0; 1]).unwrap();
    }

    #[test]
    fn a_batch_arrives_in_order_with_its_source_over_both_families() {
        for host in ["127.0.0.1", "::1"] {
            let (near, far) = pair(host);
            let texts: Vec<String> = (0..20).map(|n| format!("datagram {n}")).collect();
            let to = far.local_addr().unwrap();
            let mut send = SendBatch::new(32);
            let sent = send.send(&near, texts.iter().map(|text| (text.as_bytes(), to))).unwrap();
            assert_eq!(sent, 20);
            let mut batch = RecvBatch::new(8, 64);
            let mut seen = Vec::new();
            while seen.len() < 20 {
                wait(&far);
                let count = batch.recv(&far).unwrap();
                assert!(count <= 8);
                assert_eq!(batch.iter().count(), count);
                for received in batch.iter() {
                    assert_eq!(received.from, near.local_addr().unwrap());
                    assert!(!received.truncated && received.timestamp.is_none());
                    seen.push(String::from_utf8(received.bytes.to_vec()).unwrap());
                }
            }
            assert_eq!(seen, texts);
            assert_eq!(batch.recv(&far).unwrap(), 0, "an empty socket does not block");
            assert!(batch.get(0).is_none(), "old contents are gone");
        }
    }

    #[test]
    fn one_datagram_goes_the_short_way() {
        let (near, far) = pair("127.0.0.1");
        let to = far.local_addr().unwrap();
        let mut send = SendBatch::new(1);
        let two: [(&[u8], _); 2] = [(b"one", to), (b"two", to)];
        assert_eq!(send.send(&near, two).unwrap(), 1, "no more than there are slots");
        wait(&far);
        let mut batch = RecvBatch::new(4, 16);
        assert_eq!(batch.recv_at_most(&far, 1).unwrap(), 1);
        assert_eq!(batch.get(0).unwrap().bytes, b"one");
        assert_eq!(batch.recv_at_most(&far, 1).unwrap(), 0);
    }

    #[test]
    fn a_datagram_longer_than_its_slot_is_cut_and_says_so() {
        let (near, far) = pair("127.0.0.1");
        near.send_to(&[7; 100], far.local_addr().unwrap()).unwrap();
        near.send_to(&[], far.local_addr().unwrap()).unwrap();
        let mut batch = RecvBatch::new(4, 16);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            wait(&far);
            batch.recv(&far).unwrap();
            seen.extend(batch.iter().map(|r| (r.bytes.len(), r.truncated)));
        }
        assert_eq!(seen, [(16, true), (0, false)]);
    }

    #[test]
    fn the_kernel_tells_when_it_received() {
        let (near, far) = pair("127.0.0.1");
        enable_timestamps(&far).unwrap();
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        near.send_to(b"x", far.local_addr().unwrap()).unwrap();
        wait(&far);
        let mut batch = RecvBatch::with_timestamps(2, 16);
        assert_eq!(batch.recv(&far).unwrap(), 1);
        let at = batch.get(0).unwrap().timestamp.unwrap();
        assert!(at + Duration::from_secs(1) > before && at < before + Duration::from_secs(3600));
    }

    #[test]
    fn a_refused_port_does_not_stop_a_connected_socket() {
        let (near, dead) = pair("127.0.0.1");
        let (alive, _) = pair("127.0.0.1");
        let gone = dead.local_addr().unwrap();
        near.connect(gone).unwrap();
        drop(dead);
        let mut send = SendBatch::new(4);
        // The ICMP error of the first datagram (if nobody took the port meanwhile) meets the second send, which goes out
        // all the same.
        for _ in 0..3 {
            assert_eq!(send.send(&near, [(&b"ping"[..], gone)]).unwrap(), 1);
        }
        assert_eq!(RecvBatch::new(1, 16).recv(&near).unwrap(), 0);
        near.connect(alive.local_addr().unwrap()).unwrap();
        assert_eq!(send.send(&near, [(&b"ping"[..], alive.local_addr().unwrap())]).unwrap(), 1);
    }

    #[test]
    fn what_cannot_be_sent_is_an_error_and_the_rest_before_it_counts() {
        let (near, far) = pair("127.0.0.1");
        let to = far.local_addr().unwrap();
        let huge = vec![0; 70_000];
        let mut send = SendBatch::new(4);
        let items: [(&[u8], _); 3] = [(b"a", to), (&huge, to), (b"b", to)];
        assert_eq!(send.send(&near, items).unwrap(), 1);
        let error = send.send(&near, items[1..].iter().copied()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(send.send(&near, items[2..].iter().copied()).unwrap(), 1);
        assert_eq!(send.send(&near, std::iter::empty()).unwrap(), 0);
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert!(RecvBatch::new(2, 16).recv(&file).is_err());
        assert!(enable_timestamps(&file).is_err());
        let to = "127.0.0.1:9".parse().unwrap();
        assert!(SendBatch::new(2).send(&file, [(&b"x"[..], to)]).is_err());
    }
}
