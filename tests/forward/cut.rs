//! A cut is never an end, wherever it comes.

use super::middle::{Cut, Direction, How, Middle};
use super::target::{Target, bytes, exchange, read_all};
use super::tool::{Keys, wait};
use std::io::Write;
use std::net::TcpStream;
use std::thread;

/// Bytes of the transfer, in each direction.
const TRANSFER: usize = 40_000;
const STEP: usize = 1000;

fn cuts(passed: impl Fn(Direction) -> usize) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for direction in [Direction::Up, Direction::Down] {
        for after in (0..passed(direction)).step_by(STEP) {
            cuts.extend([How::Fin, How::Rst].map(|how| Cut { direction, after, how }));
        }
    }
    assert!(cuts.len() > 4 * TRANSFER / STEP, "{cuts:?}");
    cuts
}

#[test]
fn serve_and_connect_reset_what_was_cut() {
    let (question, answer) = (bytes(1, TRANSFER), bytes(2, TRANSFER));
    let target = Target::start(answer.clone());
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let middle = Middle::before(serve.address());
    let connect = keys.connect(middle.at);
    let transfer = || exchange(&TcpStream::connect(connect.address()).unwrap(), &question);

    assert!(transfer().is_whole(&answer));
    assert!(target.next().is_whole(&question));
    let mut cut_seen = 0;
    for cut in cuts(|direction| middle.passed(direction)) {
        middle.set(Some(cut));
        let got = transfer();
        got.check(&answer);
        cut_seen += usize::from(!got.is_whole(&answer));
        // No tunnel comes to the service where the handshake was cut.
        while let Ok(got) = target.got.try_recv() {
            got.check(&question);
        }
    }
    assert!(cut_seen > 4 * TRANSFER / STEP, "{cut_seen}");
    // After all of that, both go on.
    middle.set(None);
    assert!(transfer().is_whole(&answer));
    loop {
        let got = target.next();
        got.check(&question);
        if got.is_whole(&question) {
            break;
        }
    }
    for log in [serve.await_log("ended: cut", 50), connect.await_log("ended: cut", 50)] {
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn pipe_says_with_its_exit_code_what_was_cut() {
    let (question, answer) = (bytes(3, TRANSFER), bytes(4, TRANSFER));
    let target = Target::start(answer.clone());
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let middle = Middle::before(serve.address());
    let transfer = || {
        let mut pipe = keys.pipe(middle.at).spawn().unwrap();
        let (mut input, output) = (pipe.stdin.take().unwrap(), pipe.stdout.take().unwrap());
        let got = thread::scope(|scope| {
            let reads = scope.spawn(|| read_all(output));
            // It fails where the tunnel was cut.
            let _ = input.write_all(&question);
            drop(input);
            reads.join().unwrap()
        });
        let code = wait(&mut pipe).code().unwrap();
        (code, got)
    };

    let (code, got) = transfer();
    assert!(code == 0 && got.is_whole(&answer), "{code}");
    let passed = [Direction::Up, Direction::Down].map(|direction| middle.passed(direction));
    for cut in cuts(|direction| passed[direction as usize]).into_iter().step_by(3) {
        middle.set(Some(cut));
        let (code, got) = transfer();
        // Standard output has no reset: the exit code alone tells.
        assert!(answer.starts_with(&got.bytes), "{cut:?}");
        match code {
            0 => assert_eq!(got.bytes.len(), answer.len(), "{cut:?}"),
            // There was no tunnel yet, or there was.
            1 | 4 => assert_eq!(code == 1, cut.after == 0, "{cut:?}"),
            code => panic!("{cut:?}: {code}"),
        }
    }
    serve.await_log("ended: cut", 10);
}
