//! A TCP port of loopback that belongs to one server, also while that server is down.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use socket2::{Domain, Socket, Type};

/// A port held by a socket that is bound but never listens.
///
/// Linux lets a second socket bind and listen beside it when both ask to reuse the address, so the
/// server takes its port at every start without a gap. Meanwhile nobody is given the port by chance:
/// no other listener, and no connection as its own end. (Without this, a client that dials a dead
/// port of the ephemeral range again and again ends up connected to itself.)
#[derive(Debug)]
pub(super) struct ReservedPort {
    _socket: Socket,
    port: u16,
}

impl ReservedPort {
    /// Any that is free.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(0)
    }

    /// This one, unless somebody listens on it.
    pub(super) fn at(port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
        Ok(Self { port: address.port(), _socket: socket })
    }

    pub(super) fn number(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_port_on_which_somebody_listens_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(ReservedPort::at(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(ReservedPort::at(port).unwrap().number(), port);
    }

    #[test]
    fn reserved_ports_differ_and_can_be_listened_on_again_and_again() {
        let ports: Vec<ReservedPort> = (0..64).map(|_| ReservedPort::new().unwrap()).collect();
        assert_eq!(ports.iter().map(ReservedPort::number).collect::<BTreeSet<_>>().len(), ports.len());
        for _ in 0..3 {
            let address = (Ipv4Addr::LOCALHOST, ports[0].number());
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            // The standard library asks to reuse the address, as nats-server's does.
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(address).unwrap();
            let (server, _) = listener.accept().unwrap();
            // Closed first, so that this end stays in TIME_WAIT on the port.
            drop(server);
            drop((client, listener));
        }
    }
}
