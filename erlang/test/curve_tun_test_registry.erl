%%% A registry written in Erlang that can be told to misbehave. It counts its calls.
-module(curve_tun_test_registry).
-behaviour(curve_tun_registry).

-export([verify/2, behave/1, calls/0]).

behave(How) ->
    persistent_term:put(?MODULE, {How, counters:new(1, [])}).

calls() ->
    {_, Counter} = persistent_term:get(?MODULE),
    counters:get(Counter, 1).

verify(Socket, Key) ->
    {How, Counter} = persistent_term:get(?MODULE),
    counters:add(Counter, 1, 1),
    case How of
        well -> curve_tun_simple_registry:verify(Socket, Key);
        crash -> error(told_to);
        kill -> exit(self(), kill), timer:sleep(infinity);
        hang -> timer:sleep(infinity);
        {slow, Ms} -> timer:sleep(Ms), curve_tun_simple_registry:verify(Socket, Key);
        dead -> gen_server:call(no_such_process, verify);
        {say, What} -> What;
        {ask, Pid} -> Pid ! {verify, self()}, receive {verdict, What} -> What end
    end.
