%%% A log handler that sends each event to a process.
-module(curve_tun_test_log).

-export([log/2]).

log(Event, #{config := #{to := Pid}}) ->
    Pid ! {log, Event}.
