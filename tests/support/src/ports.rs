//! Ports for the servers that tests start.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Mutex;

/// The first port, and how many there are; all lie below those that Linux hands out to whoever asks for any.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The claims of this process, which end with it.
static CLAIMS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());

/// A port that nobody has, neither for TCP nor for UDP, on any address of this machine.
///
/// It belongs to the caller until the test process ends, although nobody listens on it yet, for three reasons:
///
/// * Linux hands out ports from 32768 on (`net.ipv4.ip_local_port_range`) to connections and to whoever binds port 0.
///   This port lies below, so nobody gets it by chance.
/// * Another call gets another port, in another process too. Each port is claimed by a socket that is named after it,
///   and the kernel gives a name to one socket alone. Such names belong to the network namespace, as ports do, and the
///   kernel takes them back from a process that ends, however it ends.
/// * A program that has the port without a claim, such as a server that outlived its test, is seen, because the port is
///   bound once.
pub fn free_port() -> u16 {
    let mut claims = CLAIMS.lock().expect("no call panics while it claims a port");
    // Processes begin at different places, and each goes on where it was.
    let begin = process::id() as usize + claims.len();
    let ports = (begin..begin + usize::from(COUNT)).map(|number| number % usize::from(COUNT));
    let ports = ports.map(|number| FIRST + u16::try_from(number).expect("less than all"));
    let (port, claimed) =
        ports.filter_map(|port| Some((port, claim(port)?))).find(|(port, _)| is_free(*port)).expect("a free port");
    claims.push(claimed);
    port
}

/// Takes the port away from all other calls for as long as the claim lives; none when another one has it.
fn claim(port: u16) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("waypost-test-port-{port}")).expect("a short name");
    UnixDatagram::bind_addr(&name).ok()
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        let handed_out = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = handed_out.split_whitespace().next().unwrap().parse().unwrap();
        assert!(
            ports.iter().all(|port| *port < first),
            "{ports:?} reach {first}, where those begin that Linux hands out"
        );
    }

    #[test]
    fn a_claim_lasts_as_long_as_its_socket() {
        let port = free_port();
        assert!(claim(port).is_none());
        // Outside of what is given, so that no other test claims it.
        let claimed = claim(1);
        assert!(claimed.is_some() && claim(1).is_none());
        drop(claimed);
        assert!(claim(1).is_some());
    }

    /// What tells the other process of [`another_process_gets_another_port`] which port is claimed.
    const CLAIMED: &str = "WAYPOST_TEST_CLAIMED_PORT";

    #[test]
    fn another_process_gets_another_port() {
        let mut other = process::Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", "ports::tests::in_another_process", "--ignored"]);
        let done = other.env(CLAIMED, free_port().to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "the process that another test starts"]
    fn in_another_process() {
        let Some(port) = std::env::var_os(CLAIMED) else { return };
        let port = port.to_str().unwrap().parse().unwrap();
        assert!(is_free(port) && claim(port).is_none(), "{port} is claimed, and nobody listens on it yet");
    }

    #[test]
    fn a_port_with_a_server_is_not_free() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        assert!(!is_free(tcp.local_addr().unwrap().port()));
        assert!(!is_free(udp.local_addr().unwrap().port()));
    }
}
