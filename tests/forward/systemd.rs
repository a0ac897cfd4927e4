//! What a service manager passes to a process, and what it is told.

use super::target::{Target, bytes, exchange};
use super::tool::{Forwarder, Keys, PATIENCE, TOOL, run_as_it_is};
use nix::sys::signal::Signal;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

/// A `connect` that is passed this socket as descriptor 3, as systemd does.
fn passed(keys: &Keys, listener: TcpListener, name: &str, to: &str) -> Command {
    let mut command = Command::new("sh");
    // Who passes it knows the process's number before the process runs.
    command.args(["-c", "exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec \"$@\"", "sh", TOOL]);
    command.args(["connect", "--listen", &format!("systemd:{name}"), "--to", to]).args(keys.client_args());
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "front");
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    command
}

#[test]
fn it_listens_at_the_socket_that_it_is_passed() {
    let keys = Keys::new();
    let target = Target::start(b"hello".to_vec());
    let serve = keys.serve(&target.at.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    // A client may come before the process is there.
    let early = TcpStream::connect(at).unwrap();
    let command = passed(&keys, listener, "front", &serve.at);
    let connect = Forwarder::start_with_input(command, keys.path("connect.log"));
    assert_eq!(connect.at, at.to_string());
    for stream in [early, TcpStream::connect(at).unwrap()] {
        assert!(exchange(&stream, &bytes(1, 10)).is_whole(b"hello"));
    }

    let other = passed(&keys, TcpListener::bind("127.0.0.1:0").unwrap(), "back", &serve.at);
    let (code, said) = run_as_it_is(other);
    assert!(code == Some(1) && said.contains("no socket of this name was passed"), "{said}");
}

#[test]
fn it_tells_when_it_is_ready_alive_and_stopping() {
    let keys = Keys::new();
    let target = Target::start(Vec::new());
    let manager = UnixDatagram::bind(keys.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(TOOL);
    command.args(["serve", "--listen", "127.0.0.1:0", "--to", &target.at.to_string()]);
    command.arg("--secret-file").arg(keys.path("server")).arg("--registry").arg(keys.path("registry"));
    command.env("NOTIFY_SOCKET", keys.path("notify")).env("WATCHDOG_USEC", "200000");
    let mut serve = Forwarder::start(command, keys.path("serve.log"));
    let next = || {
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\nSTATUS=0 connections");
    }
    serve.signal(Signal::SIGTERM);
    let until = std::time::Instant::now() + PATIENCE;
    while next() != "STOPPING=1" {
        assert!(std::time::Instant::now() < until);
    }
    assert_eq!(serve.wait().code(), Some(0));
}

#[test]
fn the_units_are_right_and_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["curve-tun-serve@", "curve-tun-connect@"] {
        let path = format!("{}/scripts/systemd/{name}.service", env!("CARGO_MANIFEST_DIR"));
        // Its manual page is not installed where this runs.
        let unit = std::fs::read_to_string(path).unwrap().replace("@BINDIR@/curve-tun", TOOL);
        let unit: Vec<_> = unit.lines().filter(|line| !line.starts_with("Documentation=")).collect();
        let path = folder.path().join(format!("{name}a.service"));
        std::fs::write(&path, unit.join("\n")).unwrap();
        let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{said}");
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&path);
        let security = security.output().unwrap();
        assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    }
}
