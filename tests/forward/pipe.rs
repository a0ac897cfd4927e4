//! Standard input and output over a tunnel.

use super::target::{Target, bytes, read_all};
use super::tool::{Keys, wait};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::thread;

#[test]
fn it_forwards_both_ways_and_ends_with_0() {
    let answer = bytes(2, 1_000_000);
    let target = Target::start(answer.clone());
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut pipe = keys.pipe(serve.address()).spawn().unwrap();
    let (mut input, output) = (pipe.stdin.take().unwrap(), pipe.stdout.take().unwrap());
    let got = thread::scope(|scope| {
        let reads = scope.spawn(|| read_all(output));
        input.write_all(&bytes(1, 500_000)).unwrap();
        drop(input);
        reads.join().unwrap()
    });
    assert!(got.is_whole(&answer));
    assert!(target.next().is_whole(&bytes(1, 500_000)));
    assert_eq!(wait(&mut pipe).code(), Some(0));
}

#[test]
fn its_output_ends_when_the_service_ends_while_input_goes_on() {
    let target = Target::of(|mut stream| {
        stream.write_all(b"all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream)
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut pipe = keys.pipe(serve.address()).spawn().unwrap();
    let mut output = String::new();
    pipe.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(output, "all");
    let mut input = pipe.stdin.take().unwrap();
    input.write_all(b"more").unwrap();
    drop(input);
    assert!(target.next().is_whole(b"more"));
    assert_eq!(wait(&mut pipe).code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_gives_the_stream_up() {
    let target = Target::start(bytes(1, 50_000_000));
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut pipe = keys.pipe(serve.address()).spawn().unwrap();
    let mut output = pipe.stdout.take().unwrap();
    output.read_exact(&mut [0; 1000]).unwrap();
    drop(output);
    assert_eq!(wait(&mut pipe).code(), Some(1));
    assert!(target.next().ended.is_err(), "the service sees no end");
    serve.await_log("ended: the connection behind the peer was reset", 1);
}

#[test]
fn files_are_forwarded_as_pipes_are() {
    let answer = bytes(2, 300_000);
    let target = Target::start(answer.clone());
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    std::fs::write(keys.path("in"), bytes(1, 300_000)).unwrap();
    let (input, output) = (keys.path("in"), keys.path("out"));
    let mut pipe = keys.pipe(serve.address());
    pipe.stdin(std::fs::File::open(input).unwrap()).stdout(std::fs::File::create(&output).unwrap());
    let mut pipe = pipe.stderr(Stdio::inherit()).spawn().unwrap();
    assert_eq!(wait(&mut pipe).code(), Some(0));
    assert_eq!(std::fs::read(output).unwrap(), answer);
    assert!(target.next().is_whole(&bytes(1, 300_000)));
}
