#!/usr/bin/env escript
%% Sends each stream of bytes back to the clients whose keys are given, to its end and no further.
%%
%%   escript examples/stream_echo.escript CLIENT_KEY ...
%%
%% from erlang/, after `rebar3 compile'. It prints the port that it listens at and its own key, says how each stream has
%% ended, and ends with its standard input.
-mode(compile).

main(Keys) ->
    code:add_patha(filename:join(filename:dirname(escript:script_name()), "../_build/default/lib/curve_tun/ebin")),
    {ok, _} = application:ensure_all_started(curve_tun),
    [admit(Key) || Key <- Keys],
    {ok, Listener} = curve_tun:listen(0, [{ip, {127,0,0,1}}, {packet, raw}]),
    {ok, {_, Port}} = curve_tun:sockname(Listener),
    {ok, Own} = curve_tun:public_key(),
    io:format("listening on 127.0.0.1:~b as ~s~n", [Port, curve_tun:public_key_to_text(Own)]),
    spawn_link(fun() -> serve(Listener) end),
    until_the_end().

admit(Text) ->
    {ok, Key} = curve_tun:public_key_from_text(Text),
    ok = curve_tun_simple_registry:register(<<"*">>, Key).

serve(Listener) ->
    {ok, Socket} = curve_tun:accept(Listener, infinity),
    Echo = spawn_link(fun() -> receive go -> echo(Socket, 0) end end),
    ok = curve_tun:controlling_process(Socket, Echo),
    Echo ! go,
    serve(Listener).

echo(Socket, Count) ->
    case curve_tun:recv(Socket, 0, infinity) of
        {ok, Bytes} ->
            _ = curve_tun:send(Socket, Bytes),
            echo(Socket, Count + byte_size(Bytes));
        %% The client has sent all of it.
        {error, closed} ->
            _ = curve_tun:shutdown(Socket, write),
            io:format("~b bytes and the end~n", [Count]);
        {error, Reason} ->
            io:format("~b bytes, then ~ts~n", [Count, curve_tun:format_error(Reason)])
    end.

until_the_end() ->
    case io:get_line("") of
        eof -> ok;
        _ -> until_the_end()
    end.
