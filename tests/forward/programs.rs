//! Programs that know nothing of tunnels, forwarded: ssh, scp, rsync, PostgreSQL, Redis, HTTP.

use super::target::bytes;
use super::tool::{Forwarder, Keys, TOOL, listener, wait};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server of somebody else's; it is killed when this is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command, which must succeed, and gives what it prints.
fn printed(command: &mut Command) -> String {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |from: Option<OwnedFd>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            std::io::copy(&mut File::from(from.unwrap()), &mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let (out, err) = (read(child.stdout.take().map(Into::into)), read(child.stderr.take().map(Into::into)));
    let status = wait(&mut child);
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    assert!(status.success(), "{command:?}: {status}\n{out}\n{err}");
    out
}

/// Waits until a server has made its socket.
fn await_path(path: &Path, daemon: &mut Daemon) {
    let until = Instant::now() + super::tool::PATIENCE;
    while !path.exists() {
        assert!(daemon.0.try_wait().unwrap().is_none() && Instant::now() < until, "no {path:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts an sshd for each connection, which lets in who has the key in `folder`.
fn sshd(folder: &Path) -> SocketAddr {
    for name in ["host_key", "user_key"] {
        printed(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name)),
        );
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         PermitRootLogin yes\nSubsystem sftp internal-sftp\nPidFile none\n",
        path("host_key"),
        path("user_key.pub"),
    );
    fs::write(folder.join("sshd_config"), config).unwrap();
    // sshd drops its privileges there; Debian makes it at boot.
    let _ = fs::create_dir_all("/run/sshd");
    let (listener, at) = listener();
    let config = folder.join("sshd_config");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let socket = OwnedFd::from(stream.unwrap());
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.arg("-i").arg("-f").arg(&config).stdin(socket.try_clone().unwrap()).stdout(socket);
            let mut sshd = sshd.stderr(Stdio::null()).spawn().unwrap();
            thread::spawn(move || sshd.wait());
        }
    });
    at
}

/// Returns the options of ssh that lead it through a tunnel.
fn ssh_options(keys: &Keys, folder: &Path, serve: &Forwarder) -> Vec<String> {
    let host_key = fs::read_to_string(folder.join("host_key.pub")).unwrap();
    fs::write(folder.join("known"), format!("box {host_key}")).unwrap();
    let pipe = format!("ProxyCommand={TOOL} pipe --to {} {}", serve.at, keys.client_args().join(" "));
    let known = format!("UserKnownHostsFile={}", folder.join("known").display());
    let key = folder.join("user_key").display().to_string();
    let options = ["-F", "none", "-o", &pipe, "-o", &known, "-o", "BatchMode=yes", "-i", &key];
    options.map(str::to_owned).to_vec()
}

#[test]
fn ssh_scp_and_rsync_by_proxy_command() {
    let keys = Keys::new();
    let folder = keys.path("ssh");
    fs::create_dir(&folder).unwrap();
    let serve = keys.serve(&sshd(&folder).to_string());
    let options = ssh_options(&keys, &folder, &serve);
    let user = printed(Command::new("id").arg("-un"));
    let host = format!("{}@box", user.trim());

    let said = printed(Command::new("ssh").args(&options).arg(&host).arg("echo over the tunnel"));
    assert_eq!(said, "over the tunnel\n");
    // An exit code comes back, and standard input goes there.
    let status = Command::new("ssh").args(&options).arg(&host).arg("exit 7").status().unwrap();
    assert_eq!(status.code(), Some(7));

    let (from, to) = (folder.join("from"), folder.join("to"));
    fs::write(&from, bytes(1, 3_000_000)).unwrap();
    let remote = |path: &Path| format!("{host}:{}", path.display());
    printed(Command::new("scp").args(&options).arg(&from).arg(remote(&to)));
    assert_eq!(fs::read(&to).unwrap(), bytes(1, 3_000_000));

    let (tree, copy) = (folder.join("tree"), folder.join("copy"));
    fs::create_dir(&tree).unwrap();
    for n in 0..50 {
        fs::write(tree.join(n.to_string()), bytes(n, 10_000)).unwrap();
    }
    let quoted: Vec<_> = options.iter().map(|option| format!("'{option}'")).collect();
    let ssh = format!("ssh {}", quoted.join(" "));
    printed(Command::new("rsync").args(["-a", "-e", &ssh]).arg(remote(&tree.join(""))).arg(&copy));
    for n in 0..50 {
        assert_eq!(fs::read(copy.join(n.to_string())).unwrap(), bytes(n, 10_000));
    }
}

/// A PostgreSQL of the test's own, at a Unix socket in `folder`.
fn postgres(folder: &Path) -> Daemon {
    let bin = fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path().join("bin"));
    let bin = bin.max().unwrap();
    // It does not run as root.
    let run = |program: &str| {
        let mut command = Command::new("setpriv");
        if nix::unistd::geteuid().is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command.arg(bin.join(program)).current_dir(folder);
        command
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(folder, Some(65534), Some(65534)).unwrap();
    }
    let data = folder.join("data");
    printed(run("initdb").args(["--no-sync", "--auth=trust", "--username=tester", "-D"]).arg(&data));
    let log = File::create(folder.join("postgres.log")).unwrap();
    let mut postgres = run("postgres");
    postgres.arg("-D").arg(&data).args(["-h", "", "-F", "-k"]).arg(folder);
    let mut daemon = Daemon(postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    await_path(&folder.join(".s.PGSQL.5432"), &mut daemon);
    daemon
}

#[test]
fn postgresql_with_psql_pgbench_and_pg_dump() {
    let keys = Keys::new();
    // Readable by the user that PostgreSQL runs as.
    let folder = tempfile::tempdir().unwrap();
    let _postgres = postgres(folder.path());
    let socket = folder.path().join(".s.PGSQL.5432");
    let serve = keys.serve(socket.to_str().unwrap());
    let connect = keys.connect(serve.address());
    let at = connect.address();
    let client = |program: &str| {
        let mut command = Command::new(program);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", at.port().to_string());
        command.env("PGUSER", "tester").env("PGDATABASE", "postgres").env("PGCONNECT_TIMEOUT", "60");
        command
    };
    let asked = |query: &str| printed(client("psql").args(["-XAtc", query]));
    // It may still be starting up.
    let until = Instant::now() + super::tool::PATIENCE;
    while !client("psql").args(["-XAtc", "select 1"]).output().unwrap().status.success() {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(asked("select 6 * 7"), "42\n");
    let long = asked("select repeat('x', 5000000)");
    assert_eq!(long.trim_end().len(), 5_000_000);
    printed(client("pgbench").args(["-i", "-q", "-s", "1"]));
    let report = printed(client("pgbench").args(["-c", "8", "-j", "2", "-t", "50"]));
    assert!(report.contains("number of transactions actually processed: 400/400"), "{report}");
    let dump = printed(client("pg_dump").args(["-t", "pgbench_branches"]));
    assert!(dump.contains("COPY public.pgbench_branches") && dump.contains("dump complete"), "{dump}");
    assert!(!connect.log().contains("cut") && !serve.log().contains("cut"), "{}", serve.log());
}

#[test]
fn redis_with_its_benchmark() {
    let keys = Keys::new();
    let socket = keys.path("redis.sock");
    let mut redis = Command::new("redis-server");
    redis.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(keys.path(""));
    let mut redis = Daemon(redis.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    await_path(&socket, &mut redis);
    let serve = keys.serve(&format!("unix:{}", socket.display()));
    let connect = keys.connect(serve.address());
    let port = connect.address().port().to_string();
    let report = printed(Command::new("redis-benchmark").args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-n",
        "5000",
        "-c",
        "50",
        "-P",
        "4",
        "-q",
        "-t",
        "set,get,lrange_300",
    ]));
    assert!(report.contains("GET:") && !report.contains("rror"), "{report}");
    let set = Command::new("redis-cli").args(["-p", &port, "set", "key", "value"]).output().unwrap();
    assert_eq!(set.stdout, b"OK\n");
}

/// A web server for the files of a folder.
fn web(folder: &Path) -> (Daemon, String) {
    let mut python = Command::new("python3");
    python.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "-d"]);
    python.arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut daemon = Daemon(python.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(daemon.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap();
    (daemon, format!("127.0.0.1:{port}"))
}

#[test]
fn http_with_keep_alive_and_in_parallel() {
    let keys = Keys::new();
    let folder = keys.path("www");
    fs::create_dir(&folder).unwrap();
    for n in 0..40 {
        fs::write(folder.join(n.to_string()), bytes(n, 30_000 * usize::from(n))).unwrap();
    }
    let (_web, at) = web(&folder);
    let serve = keys.serve(&at);
    let connect = keys.connect(serve.address());
    let fetched = |more: &[&str], to: PathBuf| {
        fs::create_dir(&to).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-sf", "--write-out", "%{num_connects}\n", "--output-dir"]).arg(&to).args(more);
        let said = printed(curl.args(["-o", "#1", &format!("http://{}/[0-39]", connect.at)]));
        for n in 0..40 {
            let path = to.join(n.to_string());
            // curl makes no file of nothing.
            let came = if n == 0 { Vec::new() } else { fs::read(path).unwrap() };
            assert_eq!(came, bytes(n, 30_000 * usize::from(n)), "{n}");
        }
        said.lines().map(|count| count.parse::<usize>().unwrap()).sum::<usize>()
    };
    assert_eq!(fetched(&[], keys.path("one")), 1, "one connection for all");
    let parallel = fetched(&["--parallel", "--parallel-max", "8", "--parallel-immediate"], keys.path("many"));
    assert!(parallel > 1, "{parallel}");
    assert!(!connect.log().contains("cut"), "{}", connect.log());
}
