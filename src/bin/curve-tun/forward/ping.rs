//! `curve-tun ping`: whether a tunnel and the service behind it can be had, and how fast.

use super::super::failure::{Failure, Outcome, print};
use super::address::Address;
use super::dial::{Dial, Dialed, explain, set_options};
use super::ending::Ending;
use super::explain::Attempt;
use super::front::{Front, STEP_LIMIT};
use super::pair::Stage;
use super::tunnel::Tunnel;
use super::{KeyArgs, ServerArgs};
use curve_tun::connection::Connection;
use curve_tun::stream::{self, AbortCode, Event, Machine};
use curve_tun::vault::Vault;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Try a tunnel to a "curve-tun serve": say how long it takes, or why there is none
///
/// It opens a stream, so the server connects to its service, and gives it up again: to the service
/// that is a connection which closes before its first byte. Then it measures the tunnel's round
/// trips.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  curve-tun ping db.example:7000 --server KEY --vault ~/.config/tunnel/vault"
)]
pub struct Args {
    /// Where the server's tunnels come in
    #[arg(value_name = "ADDR", value_parser = Address::to_connect)]
    to: Address,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// How many round trips to measure
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: u32,
}

pub fn run(args: Args) -> Outcome {
    let vault = args.key.open()?;
    let began = Instant::now();
    let socket = connect(&args.to)?;
    let mut ping = Ping::begin(&args, vault, socket)?;
    print(format_args!("connected to {} in {}", args.to, shown(began)))?;
    let began = Instant::now();
    ping.until(|tunnel| tunnel.is_connected())?;
    ping.stage = Stage::Tunnel;
    print(format_args!("handshake in {}", shown(began)))?;
    let began = Instant::now();
    ping.until(|tunnel| tunnel.machine.peer().is_some())?;
    ping.stage = Stage::Stream;
    print(format_args!("the server has connected to its service in {}", shown(began)))?;
    for n in 1..=args.count {
        let began = Instant::now();
        ping.pongs = 0;
        ping.tunnel.machine.ping(u64::from(n).to_be_bytes())?;
        ping.round_trip()?;
        print(format_args!("round trip {n} in {}", shown(began)))?;
    }
    ping.leave();
    Ok(ExitCode::SUCCESS)
}

fn shown(began: Instant) -> String {
    format!("{:.3} ms", began.elapsed().as_secs_f64() * 1000.0)
}

/// Connects, as the forwarder does, but waits for it.
fn connect(to: &Address) -> Result<Socket, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(explain(to, error))
            .hint("See whether the server runs there, and whether a firewall is in between.")
    };
    let mut dial = match to {
        Address::Unix(path) => Dial::to_path(path).map_err(|error| failed(&error))?,
        Address::Tcp { host, port } => {
            let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
                Failure::new(format_args!("cannot resolve {host}: {error}")).hint("Check the name.")
            })?;
            Dial::to_resolved(&found.collect::<Vec<_>>())
        }
    };
    let until = Instant::now() + STEP_LIMIT;
    loop {
        match dial.go_on(Instant::now()) {
            Dialed::Connected(socket) => {
                set_options(&socket).map_err(|error| failed(&error))?;
                return Ok(socket);
            }
            Dialed::Failed(error) => return Err(failed(&error)),
            Dialed::Pending => {}
        }
        let left = dial.deadline().unwrap_or(until).min(until).saturating_duration_since(Instant::now());
        if Instant::now() >= until {
            return Err(failed(&std::io::ErrorKind::TimedOut.into()));
        }
        if let Some(socket) = dial.socket() {
            wait(socket, PollFlags::POLLOUT, left)?;
        }
    }
}

fn wait(socket: &Socket, events: PollFlags, left: Duration) -> Result<(), Failure> {
    let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), events)], timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(Failure::new(format_args!("cannot wait for the network: {error}"))),
    }
}

struct Ping<'a> {
    to: &'a Address,
    own_key: curve_tun::PublicKey,
    vault: Arc<dyn Vault>,
    tunnel: Tunnel,
    stage: Stage,
    pongs: u32,
    /// What the stream has said of its end.
    ending: Option<Ending>,
}

impl Ping<'_> {
    fn begin(args: &Args, vault: Arc<dyn Vault>, socket: Socket) -> Result<Ping<'_>, Failure> {
        let own_key = vault.public_key();
        let options = stream::Options::stream().service(args.server.service.clone());
        let connection = Connection::client(vault.clone(), args.server.server, &Front::options())?;
        let tunnel = Tunnel::new(socket, connection, Machine::client(&options));
        Ok(Ping { to: &args.to, own_key, vault, tunnel, stage: Stage::Transport, pongs: 0, ending: None })
    }

    /// Drives the tunnel until `done`, for as long as a step may take.
    fn until(&mut self, done: impl Fn(&Tunnel) -> bool) -> Result<(), Failure> {
        self.drive(|ping| done(&ping.tunnel))
    }

    fn round_trip(&mut self) -> Result<(), Failure> {
        self.drive(|ping| ping.pongs > 0)
    }

    fn drive(&mut self, done: impl Fn(&Ping) -> bool) -> Result<(), Failure> {
        let until = Instant::now() + STEP_LIMIT;
        loop {
            self.tunnel.queue_due();
            let wrote = self.tunnel.write();
            let read = self.tunnel.read();
            if let Some(request) = self.tunnel.connection.request() {
                // Nobody else waits meanwhile. An error of it is met by the next read.
                let answer = request.perform_by_vault(&*self.vault);
                let _ = self.tunnel.connection.answer(answer);
                continue;
            }
            self.receive();
            if done(self) {
                return Ok(());
            }
            if let Some(ended) = &self.tunnel.ended {
                let of = if self.stage < Stage::Tunnel { Ending::of_handshake } else { Ending::of_tunnel };
                self.ending.get_or_insert(of(ended));
            }
            if Instant::now() >= until {
                self.ending.get_or_insert(Ending::TimeLimit("no answer within 10 s"));
            }
            if let Some(ending) = &self.ending {
                let first_bytes = self.tunnel.first_bytes();
                let (to, own_key, stage) = (self.to, self.own_key, self.stage);
                return Err(Attempt { to, own_key, stage, ending, first_bytes }.failure());
            }
            if !wrote && !read {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, self.tunnel.connection.wants_write());
                wait(&self.tunnel.socket, events, until.saturating_duration_since(Instant::now()))?;
                (self.tunnel.readable, self.tunnel.writable) = (true, true);
            }
        }
    }

    fn receive(&mut self) {
        while let Ok(message) = self.tunnel.connection.peek() {
            let event = self.tunnel.machine.receive(message);
            match event {
                Ok(Event::Pong) => self.pongs += 1,
                Ok(Event::Aborted) | Err(_) => {
                    let abort = self.tunnel.machine.abort_received().cloned();
                    let error = event.err().unwrap_or(curve_tun::Error::Aborted);
                    self.ending = Some(abort.map_or_else(|| Ending::of_stream(error), Ending::Aborted));
                }
                Ok(_) => {}
            }
            self.tunnel.connection.consume();
        }
    }

    /// Gives the stream up, so that the service sees its connection close.
    fn leave(mut self) {
        self.tunnel.machine.abort(AbortCode::GivenUp, "");
        self.tunnel.queue_due();
        self.tunnel.write();
        let _ = self.tunnel.socket.shutdown(std::net::Shutdown::Write);
    }
}
