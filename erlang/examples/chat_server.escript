#!/usr/bin/env escript
%% A chat room: each client's messages go to all other clients.
%%
%%   escript examples/chat_server.escript [PORT [CLIENT_KEY ...]]
%%
%% from erlang/, after `rebar3 compile'. It prints its own key; clients print theirs. Without CLIENT_KEY it asks for
%% keys on standard input, one a line, and lets their holders in from then on.
-mode(compile).

main(Args) ->
    Built = filename:join(filename:dirname(escript:script_name()), "../_build/default/lib/curve_tun/ebin"),
    _ = code:which(curve_tun) =:= non_existing andalso code:add_patha(Built),
    {ok, _} = application:ensure_all_started(curve_tun),
    {Port, Keys} = case Args of [] -> {0, []}; [P | Ks] -> {list_to_integer(P), Ks} end,
    [admit(Key) || Key <- Keys],
    {ok, Listener} = curve_tun:listen(Port, [{reuseaddr, true}]),
    {ok, {_, Bound}} = curve_tun:sockname(Listener),
    {ok, Own} = curve_tun:public_key(),
    io:format("listening on port ~b as ~s~n", [Bound, curve_tun:public_key_to_text(Own)]),
    Room = spawn_link(fun() -> room(#{}) end),
    spawn_link(fun() -> doorman(Listener, Room) end),
    case Keys of
        [] -> guests();
        _ -> receive never -> ok end
    end.

guests() ->
    case io:get_line("") of
        Line when is_list(Line) -> admit(string:trim(Line)), guests();
        _ -> receive never -> ok end
    end.

%% The registry says which keys come in from where; here from anywhere.
admit(Text) ->
    case curve_tun:public_key_from_text(Text) of
        {ok, Key} ->
            ok = curve_tun_simple_registry:register(<<"*">>, Key),
            io:format("~s may come in~n", [Text]);
        {error, bad_key_text} ->
            io:format("not a public key: ~s~n", [Text])
    end.

doorman(Listener, Room) ->
    {ok, Socket} = curve_tun:accept(Listener, infinity),
    ok = curve_tun:controlling_process(Socket, Room),
    Room ! {joined, Socket},
    doorman(Listener, Room).

%% One process owns all the sockets: their messages come as Erlang messages.
room(Names) ->
    receive
        {joined, Socket} ->
            {ok, Key} = curve_tun:peer_public_key(Socket),
            <<Name:6/binary, _/binary>> = curve_tun:public_key_to_text(Key),
            say([Name, " has joined"], Names),
            ok = curve_tun:setopts(Socket, [{active, true}]),
            room(Names#{Socket => Name});
        {curve_tun, Socket, Message} ->
            say([map_get(Socket, Names), ": ", Message], maps:remove(Socket, Names)),
            room(Names);
        {curve_tun_closed, Socket} ->
            {Name, Others} = maps:take(Socket, Names),
            say([Name, " has left"], Others),
            room(Others);
        {curve_tun_error, _, _} ->
            room(Names)
    end.

say(Line, Names) ->
    io:format("~s~n", [Line]),
    %% Whoever has just gone is told of by its own message.
    [curve_tun:send(Socket, Line) || Socket <- maps:keys(Names)].
