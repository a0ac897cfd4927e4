%%% Says a word to itself through a tunnel: `erl -pa _build/default/lib/*/ebin -noinput -s echo
%%% main'.
-module(echo).

-export([main/0]).

-spec main() -> no_return().
main() ->
    {ok, _} = application:ensure_all_started(echo),
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    {ok, Listener} = curve_tun:listen(0, [{ip, {127,0,0,1}}]),
    {ok, {_, Port}} = curve_tun:sockname(Listener),
    spawn_link(fun() ->
        {ok, Server} = curve_tun:accept(Listener),
        ok = curve_tun:send(Server, curve_tun:recv(Server)),
        {error, closed} = curve_tun:recv(Server)
    end),
    {ok, Client} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}]),
    ok = curve_tun:send(Client, <<"hello from rebar3">>),
    io:format("~s~n", [curve_tun:recv(Client)]),
    ok = curve_tun:close(Client),
    halt(0).
