#!/usr/bin/env escript
%% Sends each line of standard input to the chat room, and prints what others send.
%%
%%   escript examples/chat_client.escript HOST PORT SERVER_KEY
%%
%% from erlang/, after `rebar3 compile'. It prints its own key, and connects when the server has been told of it: press
%% return then.
-mode(compile).

main([Host, Port, ServerKey]) ->
    Built = filename:join(filename:dirname(escript:script_name()), "../_build/default/lib/curve_tun/ebin"),
    _ = code:which(curve_tun) =:= non_existing andalso code:add_patha(Built),
    {ok, _} = application:ensure_all_started(curve_tun),
    {ok, Key} = curve_tun:public_key_from_text(ServerKey),
    {ok, Own} = curve_tun:public_key(),
    io:format("I am ~s~n", [curve_tun:public_key_to_text(Own)]),
    _ = io:get_line(""),
    {ok, Socket} = curve_tun:connect(Host, list_to_integer(Port), [{key, Key}, {active, true}]),
    Main = self(),
    spawn_link(fun() -> speak(Socket, Main) end),
    hear(Socket);
main(_) ->
    io:format("usage: chat_client.escript HOST PORT SERVER_KEY~n"),
    halt(2).

speak(Socket, Main) ->
    case io:get_line("") of
        Line when is_list(Line) -> ok = curve_tun:send(Socket, string:trim(Line)), speak(Socket, Main);
        _ -> Main ! finished
    end.

hear(Socket) ->
    receive
        {curve_tun, Socket, Line} -> io:format("~s~n", [Line]), hear(Socket);
        {curve_tun_closed, Socket} -> io:format("the server has gone~n"), halt(1);
        finished -> timer:sleep(300), curve_tun:close(Socket)
    end.
