//! Configuration files: many listeners and services in one process.

use super::target::{Target, exchange};
use super::tool::{Forwarder, Keys, TOOL, listener, run};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Writes a file beside the keys.
fn write(keys: &Keys, name: &str, text: &str) {
    fs::write(keys.path(name), text).unwrap();
}

fn serve_config(web: SocketAddr, db: SocketAddr) -> String {
    format!(
        "key.secret-file = 'server'\n\
         \n\
         [listener.public]\n\
         listen = '127.0.0.1:0'\n\
         services = ['web']\n\
         \n\
         [listener.inside]\n\
         listen = '127.0.0.1:0'\n\
         \n\
         [service.web]\n\
         to = '{web}'\n\
         registry = 'registry'\n\
         \n\
         [service.db]\n\
         to = '{db}'\n\
         registry = 'db.registry'\n\
         idle = '15m'\n\
         max-lifetime = '1d'\n"
    )
}

/// Starts `serve --config`, whose listeners are inside and public, in this order.
fn serve(keys: &Keys) -> (Forwarder, [SocketAddr; 2]) {
    let mut command = Command::new(TOOL);
    command.args(["serve", "--recheck", "--config"]).arg(keys.path("serve.toml"));
    let mut serve = Forwarder::start(command, keys.path("serve.log"));
    let inside = serve.address();
    let public = serve.next_line().strip_prefix("listening on ").unwrap().trim_end().parse().unwrap();
    (serve, [inside, public])
}

fn greeted(at: SocketAddr) -> String {
    let got = exchange(&TcpStream::connect(at).unwrap(), b"");
    if got.ended.is_err() { "reset".to_owned() } else { String::from_utf8(got.bytes).unwrap() }
}

#[test]
fn a_service_goes_to_whom_its_registry_lets_in() {
    let keys = Keys::new();
    let (web, db) = (Target::start(b"web".to_vec()), Target::start(b"db".to_vec()));
    write(&keys, "serve.toml", &serve_config(web.at, db.at));
    write(&keys, "db.registry", "# nobody yet\n");
    let (serve, [inside, public]) = serve(&keys);
    let way = |at, service: &str| keys.connect_with("127.0.0.1:0", at, &["--service", service]);
    let (web_inside, db_inside, db_public) = (way(inside, "web"), way(inside, "db"), way(public, "db"));
    let plain = keys.connect(public);

    assert_eq!(greeted(web_inside.address()), "web");
    // The public listener has but one, which needs no name.
    assert_eq!(greeted(plain.address()), "web");
    // To the peer, what is not there and what it may not have are one answer.
    for way in [&db_inside, &db_public] {
        assert_eq!(greeted(way.address()), "reset");
        way.await_log("ended: the peer offers no such service, or not to this key", 1);
    }
    serve.await_log("the key may not use the service db", 1);
    serve.await_log("there is no service db here", 1);

    // A change of its registry lets it in, without a signal.
    write(&keys, "db.registry", &format!("* {}\n", keys.client_key));
    assert_eq!(greeted(db_inside.address()), "db");
    assert_eq!(greeted(db_public.address()), "reset");
}

#[test]
fn a_reload_is_all_or_nothing_and_ends_who_is_out() {
    let keys = Keys::new();
    let (web, db) = (Target::of(|stream| super::target::read_all(&stream)), Target::start(b"db".to_vec()));
    write(&keys, "serve.toml", &serve_config(web.at, db.at));
    write(&keys, "db.registry", &format!("* {}\n", keys.client_key));
    let (serve, [inside, _]) = serve(&keys);
    let way = keys.connect_with("127.0.0.1:0", inside, &["--service", "web"]);
    let stream = TcpStream::connect(way.address()).unwrap();
    serve.await_log("opened", 1);

    let good = fs::read_to_string(keys.path("serve.toml")).unwrap();
    write(&keys, "serve.toml", &good.replace("15m", "15 minutes"));
    serve.signal(Signal::SIGHUP);
    let log = serve.await_log("what was read before stays", 1);
    assert!(log.contains("line 17, column 8"), "{log}");
    write(&keys, "serve.toml", &good.replace("services = ['web']", "services = ['db']"));
    serve.signal(Signal::SIGHUP);
    serve.await_log("its listeners have changed, which takes a restart", 1);

    // A new service is there, and the old connection goes on.
    let more = format!("{good}\n[service.mail]\nto = '{}'\nregistry = 'registry'\n", db.at);
    write(&keys, "serve.toml", &more);
    serve.signal(Signal::SIGHUP);
    serve.await_log("reloaded", 1);
    let mail = keys.connect_with("127.0.0.1:0", inside, &["--service", "mail"]);
    assert_eq!(greeted(mail.address()), "db");
    assert!(!serve.log().contains("ended: the key"), "{}", serve.log());

    // Its key is taken out.
    write(&keys, "registry", "# nobody\n");
    serve.signal(Signal::SIGHUP);
    serve.await_log("ended: the key may no longer use the service", 1);
    assert!(exchange(&stream, b"").ended.is_err());
}

#[test]
fn connect_has_many_listeners() {
    let keys = Keys::new();
    let (one, two) = (Target::start(b"one".to_vec()), Target::start(b"two".to_vec()));
    let (first, second) = (keys.serve(&one.at.to_string()), keys.serve(&two.at.to_string()));
    let forward = |name: &str, to: &str| {
        format!("[forward.{name}]\nlisten = '127.0.0.1:0'\nto = '{to}'\nserver = '{}'\n", keys.server_key)
    };
    let config = forward("a", &first.at) + &forward("b", &second.at);
    write(&keys, "connect.toml", &format!("key.secret-file = 'client'\n{config}"));
    let mut command = Command::new(TOOL);
    command.args(["connect", "--config"]).arg(keys.path("connect.toml"));
    let mut connect = Forwarder::start(command, keys.path("connect.log"));
    assert_eq!(greeted(connect.address()), "one");
    let next = connect.next_line().strip_prefix("listening on ").unwrap().trim_end().parse().unwrap();
    assert_eq!(greeted(next), "two");
}

fn checked(kind: &str, path: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(TOOL);
    command.args([kind, "--check", "--config"]).arg(path);
    run(command)
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_column() {
    let keys = Keys::new();
    let (_listener, at) = listener();
    let good = serve_config(at, at);
    write(&keys, "db.registry", "");
    let path = keys.path("serve.toml");
    write(&keys, "serve.toml", &good);
    assert_eq!(checked("serve", &path).0, Some(0));
    for (old, new, words) in [
        ("15m", "15", "line 17, column 8"),
        ("15m", "15", "90s, 15m, 2h"),
        ("[service.db]", "[service.'D B']", "1 to 64 of a-z"),
        ("to = ", "too = ", "unknown field `too`"),
        ("listen = '127.0.0.1:0'", "listen = '127.0.0.1'", "the port is missing"),
        ("services = ['web']", "services = ['wep']", "there is no service wep"),
        ("key.secret-file = 'server'", "", "missing field `key`"),
        ("key.secret-file = 'server'", "key = {}", "no key is named"),
        (
            "key.secret-file = 'server'",
            "key = { secret-file = 'a', agent = 'b' }",
            "more than one key is named",
        ),
        ("'db.registry'", "'nowhere'", "nowhere"),
        ("[listener.public]", "[listener.public", "line 3, column"),
    ] {
        write(&keys, "serve.toml", &good.replace(old, new));
        let (code, said) = checked("serve", &path);
        assert!(code == Some(1) && said.contains(words), "{new}: {said}");
        assert!(said.starts_with("curve-tun: "), "{said}");
    }
    write(&keys, "connect.toml", "key.secret-file = 'client'\n[forward]\n");
    let (code, said) = checked("connect", &keys.path("connect.toml"));
    assert!(code == Some(1) && said.contains("nothing is forwarded"), "{said}");
    let (code, said) = checked("serve", &keys.path("missing"));
    assert!(code == Some(1) && said.contains("cannot read"), "{said}");
    // Either flags or a configuration.
    let mut both = Command::new(TOOL);
    both.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&path);
    assert_eq!(run(both).0, Some(2));
    let mut neither = Command::new(TOOL);
    neither.args(["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(run(neither).0, Some(2));
}
