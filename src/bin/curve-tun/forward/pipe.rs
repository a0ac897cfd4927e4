//! `curve-tun pipe`: standard input and output over a tunnel.

use super::super::failure::{Failure, Outcome};
use super::address::Address;
use super::ending::Ending;
use super::explain::Attempt;
use super::front::{End, Front, Places, Route, Shared};
use super::pair::{Report, Stage};
use super::worker::{Mailbox, Told, Worker};
use super::{CUT, KeyArgs, ServerArgs};
use nix::libc;
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

/// Forward standard input and output through a tunnel to a "curve-tun serve"
///
/// It ends when both directions have: standard input, and what comes from the service. That is exit
/// code 0. A transfer that was cut is exit code 4, also if all that came looks whole. As ssh's
/// ProxyCommand it takes the place of the TCP connection.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun pipe --to backup.example:7000 --server KEY --vault vault <dump >answer\n  \
    ssh -o ProxyCommand='curve-tun pipe --to %h:7000 --server KEY --vault vault' host.example")]
pub struct Args {
    /// Where the server's tunnels come in
    #[arg(long, value_name = "ADDR", value_parser = Address::to_connect)]
    to: Address,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    key: KeyArgs,
}

const BUFFER: usize = 64 << 10;

pub fn run(args: Args) -> Outcome {
    let vault = args.key.open().map_err(|failure| failure.code(1))?;
    let own_key = vault.public_key();
    let to = args.to;
    let route = Arc::new(Route {
        name: String::new(),
        to: to.clone(),
        registry: None,
        proxy: None,
        idle: None,
        lifetime: None,
    });
    let end = End::Connect { vault, server: args.server.server, service: args.server.service, route };
    let front = Arc::new(Front { shared: Shared::new(Places::new(1)), end });
    let (told, report) = mpsc::channel();
    let copied = start(&front, told).map_err(|error| {
        Failure::new(format_args!("cannot start: {error}")).hint(
            "The user may have no more processes, threads or files: see \"ulimit -u\" and \"ulimit -n\".",
        )
    })?;
    let Ok(Report { ending, first_bytes, stage }) = report.recv() else {
        return Err(Failure::new("cannot wait for events").code(1));
    };
    match &ending {
        Ending::Done => match copied.recv() {
            Ok(Ok(())) => Ok(ExitCode::SUCCESS),
            Ok(Err(error)) => Err(Failure::new(format_args!("cannot write to standard output: {error}"))),
            Err(_) => Err(Failure::new("cannot write to standard output")),
        },
        Ending::Cut(_) | Ending::Aborted(_) if stage == Stage::Stream => Err(Failure::new(&ending)
            .hint("The transfer is incomplete: discard what has arrived, and run it again.")
            .code(CUT)),
        Ending::LocalReset => match copied.try_recv() {
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::from(1)),
            Ok(Err(error)) => Err(Failure::new(format_args!("cannot write to standard output: {error}"))),
            _ => Err(Failure::new("cannot read standard input to its end")),
        },
        // Without an answer nobody knows what the service has had of it.
        _ => {
            let is_told = matches!(ending, Ending::Aborted(_));
            let code = if stage >= Stage::Tunnel && !is_told { CUT } else { 1 };
            let attempt = Attempt { to: &to, own_key, stage, ending: &ending, first_bytes: &first_bytes };
            Err(attempt.failure().code(code))
        }
    }
}

/// Starts the threads; gives how copying to standard output ended.
fn start(front: &Arc<Front>, report: mpsc::Sender<Report>) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    // A terminal must not be made non-blocking, and a file cannot be polled: threads of their own
    // read and write them.
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    let worker = Worker::new(front.shared.clone(), None)?;
    let mailbox = worker.mailbox().clone();
    mailbox.tell(Told::Forward(theirs, front.clone(), report));
    let fails = mailbox.clone();
    let input = ours.try_clone()?;
    let output = ours;
    let (copied, result) = mpsc::channel();
    thread::Builder::new().name("forwarder".into()).spawn(move || worker.run())?;
    thread::Builder::new().name("input".into()).spawn(move || copy_input(&input, &mailbox))?;
    thread::Builder::new().name("output".into()).spawn(move || {
        let result = copy_output(&output);
        // Told first: who hears of the end asks for it.
        let failed = result.is_err();
        let _ = copied.send(result);
        if failed {
            fails.tell(Told::LocalFailed);
        }
    })?;
    Ok(result)
}

/// Copies standard input into the tunnel. What cannot be read to its end never looks like an end.
fn copy_input(to: &Socket, mailbox: &Mailbox) {
    let copied = standard(io::stdin().as_fd()).and_then(|mut input| copy(&mut input, &mut &*to));
    match copied {
        Ok(()) => {
            let _ = to.shutdown(Shutdown::Write);
        }
        // The tunnel has ended, which is told where it happened.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {}
        Err(_) => mailbox.tell(Told::LocalFailed),
    }
}

fn copy_output(from: &Socket) -> io::Result<()> {
    let mut output = standard(io::stdout().as_fd())?;
    copy(&mut &*from, &mut output)?;
    // Whoever reads it sees the end now, while standard input goes on.
    close_output()
}

/// Returns a standard file without the buffer that the library puts on it.
fn standard(file: std::os::fd::BorrowedFd) -> io::Result<File> {
    file.try_clone_to_owned().map(File::from)
}

/// Puts /dev/null in the place of standard output.
fn close_output() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(null)?)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
