//! Messages over a Unix socket, and descriptors beside them.

use super::protocol::{HEAD_BYTES, Malformed, Message};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Why nothing more is heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The other process is gone.
    #[error("the other process has closed the connection")]
    Closed,
    /// It takes too long.
    #[error("the other process does not answer in time")]
    Late,
    /// It speaks otherwise.
    #[error("the other process has sent {0}")]
    Malformed(#[from] Malformed),
    /// It says what was not to be said now.
    #[error("the other process has sent a message out of turn")]
    OutOfTurn,
    /// It does not want to; in its words.
    #[error("{0}")]
    Refused(String),
    /// The system refuses.
    #[error("{0}")]
    System(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Closed
            }
            _ => Self::System(error),
        }
    }
}

/// Who is at the other end, by the word of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) user: u32,
    pub(super) process: i32,
}

/// One end of a connection between two processes.
pub(super) struct Channel(UnixStream);

impl Channel {
    /// A blocking socket, on which nobody waits longer than `patience` for the other to read or write.
    pub(super) fn new(socket: UnixStream, patience: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        let channel = Self(socket);
        channel.set_patience(patience)?;
        channel.0.set_write_timeout(Some(patience))?;
        Ok(channel)
    }

    /// From now on a message is awaited for so long.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// A message is awaited for ever, and may take `patience` to be sent.
    pub(super) fn wait_for_ever(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(Some(patience))
    }

    /// A second handle.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let peer = socket_peercred(&self.0)?;
        Ok(Peer { user: peer.uid.as_raw(), process: peer.pid.as_raw_nonzero().get() })
    }

    /// Nothing more is sent by either side; what has come stays to be read.
    pub(super) fn shut(&self) {
        // One that is gone already is shut.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Sends a message.
    pub(super) fn send(&self, message: &Message) -> Result<(), Broken> {
        self.send_bytes(&message.frame())
    }

    /// Sends whole frames.
    pub(super) fn send_bytes(&self, frames: &[u8]) -> Result<(), Broken> {
        Ok((&self.0).write_all(frames)?)
    }

    /// Sends a message and a descriptor with it.
    pub(super) fn send_with(&self, message: &Message, descriptor: BorrowedFd<'_>) -> Result<(), Broken> {
        let frame = message.frame();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        if !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Broken::System(io::ErrorKind::InvalidInput.into()));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&frame)], &mut beside, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)?;
        self.send_bytes(&frame[sent..])
    }

    /// The next message; one that was sent with a descriptor brings it along.
    pub(super) fn receive(&self) -> Result<(Message, Option<OwnedFd>), Broken> {
        let mut head = [0; HEAD_BYTES];
        let mut descriptor = None;
        let mut filled = 0;
        while filled < HEAD_BYTES {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let read = rustix::io::retry_on_intr(|| {
                let into = &mut [IoSliceMut::new(&mut head[filled..])];
                recvmsg(&self.0, into, &mut beside, RecvFlags::CMSG_CLOEXEC)
            })
            .map_err(io::Error::from)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(passed) = message {
                    descriptor = passed.last().or(descriptor);
                }
            }
            if read.bytes == 0 {
                return Err(Broken::Closed);
            }
            filled += read.bytes;
        }
        let (length, kind) = Message::head(head)?;
        let mut body = vec![0; length];
        (&self.0).read_exact(&mut body)?;
        match Message::read(kind, &body)? {
            Message::Refused(reason) => Err(Broken::Refused(reason)),
            message => Ok((message, descriptor)),
        }
    }

    /// The next message that is not [`Message::Wait`]; each of those is waited for as long as for the first.
    pub(super) fn receive_patiently(&self) -> Result<(Message, Option<OwnedFd>), Broken> {
        loop {
            match self.receive()? {
                (Message::Wait, _) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next message has to be this one.
    pub(super) fn expect(&self, expected: &Message) -> Result<(), Broken> {
        let (message, _) = self.receive_patiently()?;
        if message == *expected { Ok(()) } else { Err(Broken::OutOfTurn) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::upgrade::protocol::{VERSION, Wish};
    use std::os::fd::AsFd;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().expect("the system gives sockets");
        let channel = |socket| Channel::new(socket, Duration::from_millis(200)).expect("it can be set up");
        (channel(one), channel(other))
    }

    #[test]
    fn messages_come_in_order_and_descriptors_with_theirs() {
        let (one, other) = pair();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let hello = Message::Hello { version: VERSION, wish: Wish::Take };
        one.send(&hello).expect("it is sent");
        one.send(&Message::Wait).expect("it is sent");
        one.send_with(&Message::Listener("there".to_owned()), listener.as_fd()).expect("it is sent");
        one.send(&Message::Go).expect("it is sent");
        let (first, nothing) = other.receive().expect("it comes");
        assert_eq!((first, nothing.is_none()), (hello, true));
        let (second, passed) = other.receive_patiently().expect("it comes");
        assert_eq!(second, Message::Listener("there".to_owned()));
        let passed = std::net::TcpListener::from(passed.expect("a descriptor"));
        assert_eq!(passed.local_addr().ok(), Some(address));
        assert!(other.expect(&Message::Go).is_ok());
        let peer = other.peer().expect("the system knows");
        assert_eq!(peer.user, rustix::process::geteuid().as_raw());
        assert_eq!(u32::try_from(peer.process).ok(), Some(std::process::id()));
    }

    #[test]
    fn whoever_is_gone_late_or_speaks_otherwise_is_told_apart() {
        let (one, other) = pair();
        assert!(matches!(other.receive(), Err(Broken::Late)));
        one.send(&Message::Taken).expect("it is sent");
        assert!(matches!(other.expect(&Message::Go), Err(Broken::OutOfTurn)));
        one.send(&Message::Refused("not today".to_owned())).expect("it is sent");
        assert!(matches!(other.receive(), Err(Broken::Refused(reason)) if reason == "not today"));
        one.send_bytes(&[1, 0, 0, 0, 99, 0]).expect("it is sent");
        assert!(matches!(other.receive(), Err(Broken::Malformed(_))));
        one.send_bytes(&[1, 0]).expect("it is sent");
        drop(one);
        assert!(matches!(other.receive(), Err(Broken::Closed)));
        assert!(matches!(other.send(&Message::Go), Err(Broken::Closed)));
    }

    #[test]
    fn what_was_sent_before_a_channel_is_shut_is_heard_and_nothing_is_sent_after() {
        let (one, other) = pair();
        one.send(&Message::Taken).expect("it is sent");
        other.shut();
        assert!(matches!(one.send(&Message::Taken), Err(Broken::Closed)), "too late");
        assert!(matches!(other.receive(), Ok((Message::Taken, _))));
        assert!(matches!(other.receive(), Err(Broken::Closed)));
    }
}
