//! Passing descriptors between processes, and waiting for them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};

use rustix::thread::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::clock::Deadline;
use crate::error::OsError;

/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 32;

/// Makes a connected pair of sockets that keep the borders of messages; both close on exec.
///
/// # Errors
///
/// When the process has too many descriptors.
///
/// # Examples
///
/// ```
/// use manyhands_os::descriptor::{receive, send, seqpacket_pair};
/// use std::os::fd::AsFd;
///
/// let (here, there) = seqpacket_pair()?;
/// send(here.as_fd(), b"take this", &[here.as_fd()])?;
/// let mut buffer = [0; 16];
/// let (len, descriptors) = receive(there.as_fd(), &mut buffer)?;
/// assert_eq!((&buffer[..len], descriptors.len()), (&b"take this"[..], 1));
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), OsError> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| OsError::new("socketpair", e))
}

/// Sends one message with descriptors, which the receiver gets copies of.
///
/// # Errors
///
/// When the peer is gone (`EPIPE`, without a signal), or more than [`MAX_DESCRIPTORS`] are given.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), OsError> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The space may have room for one more, by its alignment.
    let fits = descriptors.len() <= MAX_DESCRIPTORS;
    let mut push = || control.push(SendAncillaryMessage::ScmRights(descriptors));
    if !fits || !(descriptors.is_empty() || push()) {
        return Err(OsError::new("sendmsg", Errno::TOOMANYREFS));
    }
    let slices = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL))
        .map(drop)
        .map_err(|e| OsError::new("sendmsg", e))
}

/// Receives one message; zero bytes mean that the peer closed.
///
/// # Errors
///
/// When descriptors were lost because this process has too many: those that came are closed, so
/// that nothing is half received. When the message is longer than `buffer`. When the peer reset.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), OsError> {
    let (received, is_short) = receive_message(socket, buffer)?;
    if received.is_cut {
        return Err(OsError::new("recvmsg", Errno::MFILE));
    }
    if is_short {
        return Err(OsError::new("recvmsg", Errno::MSGSIZE));
    }
    Ok((received.len, received.descriptors))
}

/// Waits for one message and receives it, into a buffer of its length; no bytes mean that the peer closed.
///
/// # Errors
///
/// As [`receive`]; a message of more than `most` bytes is left where it is.
///
/// # Examples
///
/// ```
/// use manyhands_os::descriptor::{receive_whole, send, seqpacket_pair};
/// use std::os::fd::AsFd;
///
/// let (here, there) = seqpacket_pair()?;
/// send(here.as_fd(), b"four", &[])?;
/// assert!(receive_whole(there.as_fd(), 3).is_err());
/// assert_eq!(receive_whole(there.as_fd(), 4)?.0, b"four");
/// drop(here);
/// assert_eq!(receive_whole(there.as_fd(), 4)?.0, b"");
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn receive_whole(
    socket: BorrowedFd<'_>,
    most: usize,
) -> Result<(Vec<u8>, Vec<OwnedFd>), OsError> {
    // The length is the whole one, however little was asked for.
    let look = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, len) = rustix::io::retry_on_intr(|| recv(socket, &mut [0; 0], look))
        .map_err(|e| OsError::new("recv", e))?;
    if len > most {
        return Err(OsError::new("recv", Errno::MSGSIZE));
    }
    let mut bytes = vec![0; len];
    let (len, descriptors) = receive(socket, &mut bytes)?;
    bytes.truncate(len);
    Ok((bytes, descriptors))
}

/// What one look at a stream of bytes brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes; 0 at the end.
    pub len: usize,
    /// What came with one of these bytes. Linux reads no further than to the end of what was sent
    /// together with them.
    pub descriptors: Vec<OwnedFd>,
    /// Whether descriptors came of which some were lost, because they were more than
    /// [`MAX_DESCRIPTORS`] or this process has too many. The others were closed.
    pub is_cut: bool,
}

/// Receives what is there of a stream, with the descriptors that come with it.
///
/// # Errors
///
/// As `read`: `EAGAIN` when the socket does not wait and nothing is there.
///
/// # Examples
///
/// ```
/// use manyhands_os::descriptor::{receive_some, send};
/// use std::io::Write;
/// use std::os::fd::AsFd;
///
/// let (mut here, there) = std::os::unix::net::UnixStream::pair()?;
/// here.write_all(b"before ")?;
/// send(here.as_fd(), b"with", &[here.as_fd()])?;
/// here.write_all(b" after")?;
/// let mut buffer = [0; 32];
/// let received = receive_some(there.as_fd(), &mut buffer)?;
/// assert_eq!(&buffer[..received.len], b"before with");
/// assert_eq!(received.descriptors.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive_some(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, OsError> {
    receive_message(socket, buffer).map(|(received, _)| received)
}

/// Receives, and tells whether the buffer was too short for a message.
fn receive_message(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(Received, bool), OsError> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        let mut slices = [IoSliceMut::new(buffer)];
        recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(|e| OsError::new("recvmsg", e))?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    // The space may have room for one more, by its alignment.
    let is_cut = message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MAX_DESCRIPTORS;
    if is_cut {
        descriptors.clear();
    }
    let received = Received {
        len: message.bytes,
        descriptors,
        is_cut,
    };
    Ok((received, message.flags.contains(ReturnFlags::TRUNC)))
}

/// Waits until one of the descriptors can be read or is at its end; tells of each whether it can.
///
/// # Errors
///
/// When the system refuses to poll.
pub fn poll_readable(
    descriptors: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<Vec<bool>, OsError> {
    let mut list: Vec<_> = descriptors
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        match poll(&mut list, deadline.remaining_timespec().as_ref()) {
            Ok(_) => {
                return Ok(list
                    .iter()
                    .map(|entry| !entry.revents().is_empty())
                    .collect());
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(OsError::new("poll", errno)),
        }
    }
}

/// Waits until a descriptor can be written, or its other end is gone; false at the deadline.
///
/// # Errors
///
/// When the system refuses to poll.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use manyhands_os::{Deadline, descriptor};
///
/// let (_reader, writer) = std::io::pipe()?;
/// assert!(descriptor::poll_writable(writer.as_fd(), Deadline::now())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn poll_writable(descriptor: BorrowedFd<'_>, deadline: Deadline) -> Result<bool, OsError> {
    let mut list = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    loop {
        match poll(&mut list, deadline.remaining_timespec().as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(OsError::new("poll", errno)),
        }
    }
}

/// Whether a descriptor can be read, or is at its end, right now.
///
/// # Errors
///
/// When the system refuses to poll.
pub fn is_readable(descriptor: impl AsFd) -> Result<bool, OsError> {
    Ok(poll_readable(&[descriptor.as_fd()], Deadline::now())?[0])
}

/// A descriptor that can be read while it is set.
///
/// # Examples
///
/// ```
/// use manyhands_os::descriptor::{EventFd, is_readable};
///
/// let flag = EventFd::new()?;
/// flag.set();
/// flag.set();
/// assert!(is_readable(&flag)?);
/// flag.clear();
/// assert!(!is_readable(&flag)?);
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// One that is not set; it closes on exec.
    ///
    /// # Errors
    ///
    /// When the process has too many descriptors.
    pub fn new() -> Result<Self, OsError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let made = eventfd(0, flags).map_err(|e| OsError::new("eventfd", e))?;
        Ok(Self(made))
    }

    /// Sets it.
    pub fn set(&self) {
        // It fails only when it was set 2^64 - 2 times.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &1_u64.to_ne_bytes()));
    }

    /// Clears it.
    pub fn clear(&self) {
        // It fails when it is not set.
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut [0; 8]));
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that can be read from a time on.
///
/// # Errors
///
/// When the process has too many descriptors.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use manyhands_os::descriptor::{is_readable, timer};
///
/// assert!(is_readable(timer(Deadline::now())?)?);
/// assert!(!is_readable(timer(Deadline::NEVER)?)?);
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn timer(deadline: Deadline) -> Result<OwnedFd, OsError> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags);
    let timer = timer.map_err(|e| OsError::new("timerfd_create", e))?;
    if let Some(time) = deadline.timespec() {
        let set = Itimerspec {
            it_interval: Timespec::default(),
            it_value: time,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &set)
            .map_err(|e| OsError::new("timerfd_settime", e))?;
    }
    Ok(timer)
}

/// A descriptor that can be read while one of these can, as long as that one is open elsewhere.
///
/// # Errors
///
/// When the process has too many descriptors, or one of them is a file that can always be read.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
///
/// use manyhands_os::descriptor::{EventFd, gather, is_readable};
///
/// let (one, other) = (EventFd::new()?, EventFd::new()?);
/// let both = gather(&[one.as_fd(), other.as_fd()])?;
/// assert!(!is_readable(&both)?);
/// other.set();
/// assert!(is_readable(&both)?);
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn gather(descriptors: &[BorrowedFd<'_>]) -> Result<OwnedFd, OsError> {
    let all = epoll::create(epoll::CreateFlags::CLOEXEC);
    let all = all.map_err(|e| OsError::new("epoll_create1", e))?;
    for descriptor in descriptors {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&all, descriptor, data, epoll::EventFlags::IN)
            .map_err(|e| OsError::new("epoll_ctl", e))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn descriptor_sent_is_the_same_file_at_the_receiver() {
        let (here, there) = seqpacket_pair().expect("pair");
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        send(here.as_fd(), b"x", &[writer.as_fd()]).expect("send");
        drop(writer);
        let mut buffer = [0; 4];
        let (len, got) = receive(there.as_fd(), &mut buffer).expect("receive");
        assert_eq!((len, got.len()), (1, 1));
        rustix::io::write(&got[0], b"through").expect("write");
        let mut text = [0; 16];
        let read = rustix::io::read(&reader, &mut text).expect("read");
        assert_eq!(&text[..read], b"through");
    }

    #[test]
    fn receiver_sees_zero_bytes_when_the_sender_closed() {
        let (here, there) = seqpacket_pair().expect("pair");
        assert!(!is_readable(&there).expect("poll"));
        drop(here);
        assert!(is_readable(&there).expect("poll"));
        assert_eq!(receive(there.as_fd(), &mut [0; 4]).expect("end").0, 0);
        assert!(send(there.as_fd(), b"x", &[]).is_err());
    }

    #[test]
    fn message_longer_than_the_buffer_is_an_error() {
        let (here, there) = seqpacket_pair().expect("pair");
        send(here.as_fd(), b"too long", &[]).expect("send");
        assert!(receive(there.as_fd(), &mut [0; 3]).is_err());
    }

    /// How many pipes of those whose writing end was sent nobody has any more.
    fn closed(readers: &[OwnedFd]) -> usize {
        let ends = readers.iter().filter(|reader| {
            is_readable(reader).expect("poll")
                && rustix::io::read(reader, &mut [0; 1]).expect("no data is sent") == 0
        });
        ends.count()
    }

    #[test]
    fn descriptors_that_are_too_many_are_closed_and_the_bytes_are_there() {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("pair");
        let pipes: Vec<_> = (0..=MAX_DESCRIPTORS)
            .map(|_| rustix::pipe::pipe().expect("pipe"))
            .collect();
        let (readers, writers): (Vec<OwnedFd>, Vec<OwnedFd>) = pipes.into_iter().unzip();
        let rights: Vec<_> = writers.iter().map(AsFd::as_fd).collect();
        assert!(send(here.as_fd(), b"x", &rights).is_err(), "it refuses");
        // Whoever means ill has a larger buffer.
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        let bytes = [IoSlice::new(b"many")];
        sendmsg(&here, &bytes, &mut control, SendFlags::NOSIGNAL).expect("it is open");
        drop(writers);
        assert_eq!(closed(&readers), 0, "they are on their way");
        let mut buffer = [0; 8];
        let received = receive_some(there.as_fd(), &mut buffer).expect("it is there");
        assert!(received.is_cut && received.descriptors.is_empty());
        assert_eq!(&buffer[..received.len], b"many");
        assert_eq!(closed(&readers), readers.len());
    }

    #[test]
    fn poll_gives_up_at_its_deadline() {
        let (here, _there) = seqpacket_pair().expect("pair");
        let soon = Deadline::after(Duration::from_millis(2));
        assert_eq!(poll_readable(&[here.as_fd()], soon).expect("poll"), [false]);
        assert!(soon.has_passed());
    }
}
