//! The C examples, run as processes as a user would.

use crate::support::agent::AgentProcess;
use crate::support::c;
use crate::support::c::examples::{Keys, Server, examples, keygen};
use crate::support::c::{printed, repository};
use crate::support::softhsm;
use curve_tun::net::{Connector, Socket};
use curve_tun::vault::{Cost, FileVault, MemoryVault, Pkcs11Vault, Vault};
use curve_tun::{Error, PublicKey};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SERVERS: [&str; 2] = ["echo_server", "epoll_server"];

/// Runs `echo_client` with these lines as its input.
fn echo_client(server: &Server, secret: &str, server_key: &PublicKey, more: &[&str], input: &[u8]) -> Output {
    run_client(&examples().join("echo_client"), server, secret, server_key, more, input)
}

fn run_client(
    program: &Path,
    server: &Server,
    secret: &str,
    server_key: &PublicKey,
    more: &[&str],
    input: &[u8],
) -> Output {
    let mut command = Command::new(program);
    command.args(["127.0.0.1", &server.port.to_string(), secret, &server_key.to_string()]).args(more);
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A client that fails before reading closes the pipe early.
    let _ = client.stdin.take().unwrap().write_all(input);
    client.wait_with_output().unwrap()
}

#[track_caller]
fn prints(output: &Output, expected: &[u8]) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, expected);
}

#[track_caller]
fn fails_with(output: &Output, error: Error) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(error.message()), "{said}");
}

#[test]
fn keygen_prints_a_pair_in_the_text_form() {
    let text = printed(&mut Command::new(examples().join("keygen")));
    let lines: Vec<_> = text.lines().collect();
    let [public, secret] = lines[..] else { panic!("two lines") };
    let public: PublicKey = public.strip_prefix("public ").unwrap().parse().unwrap();
    // Public and secret keys have the same text form.
    let secret: PublicKey = secret.strip_prefix("secret ").unwrap().parse().unwrap();
    assert_eq!(MemoryVault::from_secret(&secret.0).unwrap().public_key(), public);
    assert_ne!(keygen().public, keygen().public);
}

#[test]
fn keygen_makes_a_vault_and_prints_its_public_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vault");
    let text = printed(Command::new(examples().join("keygen")).arg(&file));
    let public: PublicKey = text.strip_prefix("public ").unwrap().trim_end().parse().unwrap();
    assert_eq!(FileVault::open(&file, None).unwrap().public_key(), public);
    let again = Command::new(examples().join("keygen")).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(1) && again.stdout.is_empty() && said.contains("already"), "{said}");
    let many = Command::new(examples().join("keygen")).args(["a", "b"]).output().unwrap();
    assert_eq!(many.status.code(), Some(2));
}

#[test]
fn the_examples_please_clang_too() {
    let folder = c::workshop("examples-clang");
    let mut make = Command::new("make");
    make.arg("-C").arg(repository().join("c-examples")).arg("CC=clang");
    make.arg(format!("LIBDIR={}", c::library().display()));
    c::succeed(make.arg(format!("BUILD={}", folder.display())));
    printed(&mut Command::new(folder.join("keygen")));
}

#[test]
fn messages_of_every_size_come_back() {
    for name in SERVERS {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &[], &keys, &[&client]);
        let socket = server.connect(&client);
        let mut buffer = vec![0; 65_503];
        let edges = [65_502, 65_503];
        for size in (0..=4096usize).chain((8192..65_503).step_by(4099)).chain(edges) {
            let message: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
            socket.send(&message, c::examples::PATIENCE).unwrap();
            let len = socket.recv(&mut buffer, c::examples::PATIENCE).unwrap();
            assert!(buffer[..len] == message, "{name}: {size} bytes");
        }
        socket.close();
        server.ends_by_sigterm();
    }
}

#[test]
fn servers_and_clients_run_on_every_vault_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let path = folder.path().join(name);
        (FileVault::create(&path, None, Cost::default()).unwrap().public_key(), path)
    };
    let [(agent_key, agent_vault), (file_key, file_vault), (client_key, client_vault)] =
        ["agent", "file", "client"].map(made);
    let socket = folder.path().join("socket");
    let _agent = AgentProcess::start(&agent_vault, &socket);
    let (agent, file) = (format!("agent:{}", socket.display()), format!("vault:{}", file_vault.display()));
    for name in SERVERS {
        for (secret, public) in [(&agent, agent_key), (&file, file_key)] {
            let keys = Keys { public, secret: secret.clone() };
            let client = Keys { public: client_key, secret: format!("vault:{}", client_vault.display()) };
            let server = Server::start(name, &[], &keys, &[&client, &keys]);
            prints(&echo_client(&server, &client.secret, &public, &[], b"one\ntwo\n"), b"one\ntwo\n");
            if *secret == agent {
                // Both ends use the same agent.
                prints(&echo_client(&server, secret, &public, &[], b"three\n"), b"three\n");
            }
            server.ends_by_sigterm();
        }
    }
}

#[test]
fn servers_and_clients_run_on_a_key_in_a_token() {
    let library = c::library_of_tests();
    let folder = c::workshop_with("examples-token", &library);
    let mut make = Command::new("make");
    make.arg("-C").arg(repository().join("c-examples"));
    make.arg(format!("LIBDIR={}", library.parent().unwrap().display()));
    c::succeed(make.arg(format!("BUILD={}", folder.display())));
    let hsm = softhsm::SoftHsm::get();
    let pin = hsm.folder().join("pin");
    fs::write(&pin, softhsm::PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let made = |token: &str| {
        let uri = hsm.uri(token, "key");
        let public = Pkcs11Vault::generate(&uri, Some(softhsm::PIN)).unwrap().public_key();
        Keys { public, secret: format!("{uri}&pin-source={}", pin.display()) }
    };
    let (keys, client) = (made("place"), made("again"));
    for name in SERVERS {
        let server = Server::run(&mut Command::new(folder.join(name)), "127.0.0.1", &[], &keys, &[&client]);
        let program = folder.join("echo_client");
        let echo = run_client(&program, &server, &client.secret, &keys.public, &[], b"one\ntwo\n");
        prints(&echo, b"one\ntwo\n");
        server.ends_by_sigterm();
    }
}

#[test]
fn lines_and_files_come_back_to_echo_client() {
    let folder = c::workshop("echo_files");
    for name in SERVERS {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &[], &keys, &[&keygen(), &client]);
        let echo = |secret: &str, more: &[&str], input: &[u8]| {
            echo_client(&server, secret, &keys.public, more, input)
        };
        prints(&echo(&client.secret, &[], b"hello\n\nworld\n"), b"hello\n\nworld\n");
        prints(&echo(&client.secret, &[], b"no end of line"), b"no end of line\n");
        prints(&echo(&client.secret, &[], b""), b"");
        fails_with(&echo(&client.secret, &[], &[b'x'; 65_504]), Error::TooLarge);

        let secret_file = folder.join("secret");
        fs::write(&secret_file, format!("{}\n", client.secret)).unwrap();
        let from_file = format!("@{}", secret_file.display());
        fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = echo(&from_file, &[], b"by file\n");
        assert_eq!(exposed.status.code(), Some(1));
        let said = String::from_utf8_lossy(&exposed.stderr);
        assert!(said.contains("others can read or change it"), "{said}");
        fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600)).unwrap();
        prints(&echo(&from_file, &[], b"by file\n"), b"by file\n");
        fs::write(&secret_file, format!("{}x\n", client.secret)).unwrap();
        let refused = echo(&from_file, &[], b"by file\n");
        fails_with(&refused, Error::BadKeyText);
        assert!(!String::from_utf8_lossy(&refused.stderr).contains(&client.secret));

        let file = folder.join("file");
        for size in [0, 1, 59_999, 60_000, 60_001, 20_000_000] {
            fs::write(&file, (0..size).map(|i: u32| (i ^ (i >> 8)) as u8).collect::<Vec<_>>()).unwrap();
            let output = echo(&client.secret, &["--file", file.to_str().unwrap()], b"");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.starts_with(&format!("{size} bytes there and back in ")), "{said}");
            assert!(said.ends_with(" seconds\n"), "{said}");
        }
        server.ends_by_sigterm();
    }
}

#[test]
fn streams_come_back_whole_or_not_at_all() {
    let (keys, client, stranger) = (keygen(), keygen(), keygen());
    let server = Server::start("stream_server", &[], &keys, &[&client]);
    let program = examples().join("stream_client");
    let run = |from: &Keys, more: &[&str], input: &[u8]| {
        run_client(&program, &server, &from.secret, &keys.public, more, input)
    };
    for size in [0, 1, 65_502, 65_503, 5_000_000] {
        let bytes: Vec<u8> = (0..size).map(|i: u32| (i ^ (i >> 8)) as u8).collect();
        prints(&run(&client, &[], &bytes), &bytes);
    }
    prints(&run(&client, &["echo"], b"by its name"), b"by its name");
    fails_with(&run(&client, &["time"], b""), Error::Aborted);
    fails_with(&run(&client, &["No Name"], b""), Error::InvalidArgument);
    // A server that lets nobody in ends the connection, which is no end of a stream.
    let refused = run(&stranger, &[], b"");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!([Error::Truncated, Error::Closed].iter().any(|error| said.contains(error.message())), "{said}");

    // A program that speaks no streams is answered by nothing but the end.
    let socket = server.connect(&client);
    socket.send(b"hello", c::examples::PATIENCE).unwrap();
    assert_eq!(socket.recv(&mut [0; 8], c::examples::PATIENCE), Err(Error::Closed));
    server.ends_by_sigterm();
}

#[test]
fn a_server_that_ends_cuts_no_stream_unnoticed() {
    let (keys, client) = (keygen(), keygen());
    let server = Server::start("stream_server", &[], &keys, &[&client]);
    let mut command = Command::new(examples().join("stream_client"));
    command.args(["127.0.0.1", &server.port.to_string(), &client.secret, &keys.public.to_string()]);
    let mut talking =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    talking.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    let mut half = [0; 4];
    talking.stdout.as_mut().unwrap().read_exact(&mut half).unwrap();
    server.ends_by_sigterm();
    // Its input is still open.
    let mut said = String::new();
    talking.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(talking.wait().unwrap().code(), Some(1), "{said}");
    assert_eq!(&half, b"half");
    assert!([Error::Truncated, Error::Aborted].iter().any(|error| said.contains(error.message())), "{said}");
}

#[test]
fn wrong_keys_get_their_own_errors() {
    for name in SERVERS {
        let (keys, client, stranger) = (keygen(), keygen(), keygen());
        let server = Server::start(name, &[], &keys, &[&client]);
        let echo = |from: &Keys, to: &Keys| echo_client(&server, &from.secret, &to.public, &[], b"hello\n");
        fails_with(&echo(&client, &stranger), Error::WrongServerKey);
        fails_with(&echo(&stranger, &keys), Error::Closed);
        prints(&echo(&client, &keys), b"hello\n");
        assert_eq!(server.ends_by_sigterm(), "");
    }
}

#[test]
fn a_verbose_server_says_whom_it_turned_away_and_why() {
    for name in SERVERS {
        let (keys, client, stranger) = (keygen(), keygen(), keygen());
        let server = Server::start(name, &["--verbose", "--handshakes", "1024"], &keys, &[&client]);
        let echo = |from: &Keys, to: &Keys| echo_client(&server, &from.secret, &to.public, &[], b"hello\n");
        fails_with(&echo(&client, &stranger), Error::WrongServerKey);
        fails_with(&echo(&stranger, &keys), Error::Closed);
        prints(&echo(&client, &keys), b"hello\n");
        let (bad, unknown) = (Error::BadPacket.message(), Error::UnknownPeer.message());
        let expected =
            format!("refused 127.0.0.1 -: {bad}\nrefused 127.0.0.1 {}: {unknown}\n", stranger.public);
        assert_eq!(server.ends_by_sigterm(), expected);
    }
}

#[test]
fn a_flood_of_strangers_is_a_few_lines_and_their_number() {
    const STRANGERS: usize = 200;
    for name in SERVERS {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &["--verbose"], &keys, &[&client]);
        for _ in 0..STRANGERS {
            let mut stranger = server.connect_tcp();
            stranger.write_all(&[0xff; 200]).unwrap();
            // The end of the stream shows that it was turned away.
            let _ = stranger.read(&mut [0]);
        }
        let said = server.ends_by_sigterm();
        let more =
            |line: &str| line.strip_suffix(" more turned away").map(|more| more.parse::<usize>().unwrap());
        let refused = said.lines().filter(|line| line.starts_with("refused ")).count();
        let counted: usize = said.lines().filter_map(more).sum();
        assert!(refused >= 10 && refused + counted <= STRANGERS, "{said}");
        assert_eq!(said.lines().count(), refused + said.lines().filter_map(more).count(), "{said}");
    }
}

#[test]
fn bad_arguments_are_refused_and_secrets_not_repeated() {
    let keys = keygen();
    let public = keys.public.to_string();
    let secret = format!("{}A", keys.secret);
    for name in SERVERS.into_iter().chain(["echo_client", "stream_server", "stream_client"]) {
        for arguments in [
            &["127.0.0.1", "0"][..],
            &["127.0.0.1", "65536", &keys.secret, &public],
            &["127.0.0.1", "x", &keys.secret, &public],
            &["127.0.0.1", "0", &secret, &public],
            &["127.0.0.1", "0", &keys.secret, "no key"],
            &["127.0.0.1", "0", "@/nonexistent", &public],
        ] {
            let output = Command::new(examples().join(name)).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} {arguments:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.is_empty() && !said.contains(&keys.secret), "{said}");
        }
    }
}

#[test]
fn sigterm_ends_a_server_with_clients() {
    for name in SERVERS {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &[], &keys, &[&client]);
        let busy: Vec<Socket> = (0..5).map(|_| server.connect(&client)).collect();
        let silent = server.connect_tcp();
        server.ends_by_sigterm();
        for socket in busy {
            let mut buffer = [0; 8];
            let closed = socket.recv(&mut buffer, c::examples::PATIENCE);
            assert_eq!(closed, Err(Error::Closed));
        }
        drop(silent);
    }
}

#[test]
fn a_server_listens_on_ipv6_and_says_so() {
    for name in SERVERS {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start_at("::1", name, &[], &keys, &[&client]);
        assert_eq!(server.address, format!("[::1]:{}", server.port));
        let vault = std::sync::Arc::new(client.vault());
        let patience = c::examples::PATIENCE;
        let socket = Connector::new(vault)
            .server_key(keys.public)
            .timeout(patience)
            .connect("::1", server.port)
            .unwrap();
        socket.send(b"six", patience).unwrap();
        assert_eq!(socket.recv(&mut [0; 3], patience), Ok(3));
        server.ends_by_sigterm();
    }
}

#[test]
fn custom_vault_is_asked_for_every_box_and_the_registry_once() {
    let said = printed(&mut Command::new(examples().join("custom_vault")));
    for (line, times) in [
        ("vault: open a box with purpose 1", 1),
        ("vault: seal a box with purpose 2", 1),
        ("vault: open a box with purpose 3", 1),
        ("registry: ", 1),
        ("client: sent hello, received hello", 1),
        ("vault: freed", 1),
    ] {
        assert_eq!(said.lines().filter(|said| said.starts_with(line)).count(), times, "{line}\n{said}");
    }
}
