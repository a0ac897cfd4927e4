//! The forwarder, `curve-tun serve`, `connect`, `pipe` and `ping`, as operators run it: real
//! processes, real sockets, and a man in the middle who cuts.

mod config;
mod cut;
mod end;
mod faults;
mod limits;
mod metrics;
mod middle;
mod pipe;
mod programs;
mod proxy;
mod refusals;
mod systemd;
mod target;
mod tool;
