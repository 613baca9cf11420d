//! Which process has a connection to the proxy: from what the kernel tells of sockets in `/proc`.

use std::fs;
use std::net::SocketAddr;

/// The one of `processes` that has the socket at `client`, whose other end is at `proxy`; none when it is not among
/// those of IPv4, or has been closed, or is somebody else's.
pub(super) fn owner_of(client: SocketAddr, proxy: SocketAddr, processes: &[u32]) -> Option<u32> {
    let inode = inode_of(&fs::read_to_string("/proc/net/tcp").ok()?, client.port(), proxy.port())?;
    let name = format!("socket:[{inode}]");
    let has_it = |process: &u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == name.as_str())
    };
    processes.iter().copied().find(has_it)
}

/// Of the socket that has these ports at its own and at the other end.
fn inode_of(table: &str, own_port: u16, other_port: u16) -> Option<u64> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = |place: usize| {
            let (_, port) = fields.get(place)?.split_once(':')?;
            u16::from_str_radix(port, 16).ok()
        };
        let is_it = port(1)? == own_port && port(2)? == other_port;
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_of_this_process_is_this_process_s() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = listener.local_addr().expect("bound");
        let client = TcpStream::connect(proxy).expect("it listens");
        let address = client.local_addr().expect("connected");
        let us = std::process::id();
        assert_eq!(owner_of(address, proxy, &[u32::MAX, us]), Some(us));
        assert_eq!(owner_of(address, proxy, &[u32::MAX]), None);
        assert_eq!(owner_of(proxy, proxy, &[us]), None);
    }

    #[test]
    fn the_table_is_read_by_both_ports_and_what_is_no_row_is_passed_over() {
        let row = "   1: 0100007F:A0B1 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let table = format!("  sl  local_address rem_address   st\n\n  0: cut\n{row}\n");
        assert_eq!(inode_of(&table, 0xA0B1, 0x1F90), Some(4711));
        assert_eq!(inode_of(&table, 0x1F90, 0xA0B1), None);
        assert_eq!(inode_of(&table, 0xA0B1, 0x1F91), None);
    }
}
