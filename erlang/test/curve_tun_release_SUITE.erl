%%% A release upgrade with live connections, with OTP's release handler and an appup: to a next
%%% version, made here, whose records have one more field, and back.
-module(curve_tun_release_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, listen/1, connect/1, message/1, until/1, sender/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 180}}].

all() -> [up_and_down_under_traffic].

-define(CHANGED, [curve_tun_connection, curve_tun_listener, curve_tun_cookie, curve_tun_provider_server, curve_tun_monitor,
                  curve_tun_sender | ?SHARE]).
%% The modules that share the record of a connection.
-define(SHARE, [curve_tun_connection_setup, curve_tun_connection_told]).

up_and_down_under_traffic(Config) ->
    Folder = filename:absname(proplists:get_value(priv_dir, Config)),
    {Old, New} = {version(Folder, "0.1.0", fun(_, Text) -> Text end), version(Folder, "0.1.1", fun next/2)},
    curve_tun_test:in_a_node(?MODULE, scenario, [New], filename:join(Old, "ebin")).

root(Folder) ->
    case filelib:is_regular(filename:join(Folder, "build_nif.sh")) of
        true -> Folder;
        false when Folder =/= "/" -> root(filename:dirname(Folder))
    end.

%% Makes a version of the application in a separate folder, compiled from the sources with a change.
version(Folder, Version, Change) ->
    Source = filename:join(root(filename:dirname(filename:absname(code:which(?MODULE)))), "src"),
    Out = filename:join(Folder, "curve_tun-" ++ Version),
    Ebin = filename:join(Out, "ebin"),
    ok = filelib:ensure_path(Ebin),
    {_, _, Beam} = code:get_object_code(curve_tun),
    Lib = filename:dirname(filename:dirname(filename:absname(Beam))),
    ok = file:make_symlink(filename:join(Lib, "priv"), filename:join(Out, "priv")),
    {ok, Header} = file:read_file(filename:join(Source, "curve_tun_connection.hrl")),
    ok = file:write_file(filename:join(Out, "curve_tun_connection.hrl"), Change(header, Header)),
    [begin
         {ok, Text} = file:read_file(File),
         Module = list_to_atom(filename:basename(File, ".erl")),
         Copy = filename:join(Out, filename:basename(File)),
         ok = file:write_file(Copy, Change(Module, Text)),
         {ok, Module} = compile:file(Copy, [{outdir, Ebin}, return_errors])
     end || File <- filelib:wildcard(filename:join(Source, "*.erl"))],
    {ok, [{application, curve_tun, Properties}]} = file:consult(filename:join(Lib, "ebin/curve_tun.app")),
    App = {application, curve_tun, lists:keyreplace(vsn, 1, Properties, {vsn, Version})},
    ok = file:write_file(filename:join(Ebin, "curve_tun.app"), io_lib:format("~p.~n", [App])),
    %% Soft: a process waiting in a call is in the old code for a moment longer.
    Steps = [{update, M, {advanced, []}, soft_purge, soft_purge, [Shares || M =:= curve_tun_connection, Shares <- ?SHARE]}
             || M <- ?CHANGED -- [curve_tun_sender | ?SHARE]]
        ++ [{load_module, M, soft_purge, soft_purge, []} || M <- [curve_tun_sender | ?SHARE]],
    ok = file:write_file(filename:join(Ebin, "curve_tun.appup"), io_lib:format("~p.~n", [{"0.1.1", [{"0.1.0", Steps}],
                                                                                         [{"0.1.0", Steps}]}])),
    Out.

%% The next version: one more field at the head of the records of connection and listener, which the
%% code_change of that version adds and removes; and one more in the map of a sender, which is not
%% suspended.
next(header, Text) ->
    replaced(<<"-record(data, {">>, <<"-record(data, {added = added :: added,">>, Text);
next(curve_tun_connection, Text) ->
    replaced(<<"code_change(_OldVsn, State, D, _Extra) ->\n    {ok, State, D}.">>,
             <<"code_change({down, _}, State, D, _Extra) -> {ok, State, erlang:delete_element(2, D)};\n"
               "code_change(_OldVsn, State, D, _Extra) -> {ok, State, erlang:insert_element(2, D, added)}.">>, Text);
next(curve_tun_listener, Text) ->
    replaced(<<"code_change(_OldVsn, S, _Extra) ->\n    {ok, S}.">>,
             <<"code_change({down, _}, S, _Extra) -> {ok, erlang:delete_element(2, S)};\n"
               "code_change(_OldVsn, S, _Extra) -> {ok, erlang:insert_element(2, S, added)}.">>,
             replaced(<<"-record(listener, {">>, <<"-record(listener, {added = added :: added,">>, Text));
next(curve_tun_sender, Text) ->
    replaced(<<"-define(FRESH, #{">>, <<"-define(FRESH, #{added => added, ">>,
             replaced(<<"loop(Next, #{connection := Connection,">>,
                      <<"loop(Next, #{added := _, connection := Connection,">>, Text));
next(_, Text) ->
    Text.

replaced(Part, By, Text) ->
    [Before, After] = binary:split(Text, Part),
    iolist_to_binary([Before, By, After]).

%% On the other node.
scenario(New) ->
    ok = curve_tun_test:start(),
    Id = curve_tun_test:forward_log(error),
    Old = code:lib_dir(curve_tun),
    Before = tasks(),
    Size = size_of(Before),
    ?assertNot(maps:is_key(added, sender_of(Before))),
    {ok, _} = release_handler:upgrade_app(curve_tun, New),
    {ok, "0.1.1"} = application:get_key(curve_tun, vsn),
    ?assertEqual(Size + 1, size_of(Before)),
    %% The sender continues in the new code, in the middle of its work.
    until(fun() -> maps:is_key(added, sender_of(Before)) end),
    Again = tasks(),
    finished(Before),
    ?assertEqual(Size + 1, size_of(Again)),
    ?assert(maps:is_key(added, sender_of(Again))),
    %% Processes in the old code have left it; waiting ones do so within a second.
    until(fun() -> lists:all(fun code:soft_purge/1, ?CHANGED) end),
    {ok, _} = release_handler:downgrade_app(curve_tun, "0.1.0", Old),
    {ok, "0.1.0"} = application:get_key(curve_tun, vsn),
    ?assertEqual(Size, size_of(Again)),
    %% It has returned, with fields that the old code does not know.
    ?assert(maps:is_key(added, sender_of(Again))),
    Last = tasks(),
    finished(Again),
    finished(Last),
    ok = logger:remove_handler(Id),
    receive {log, Event} -> ct:fail({logged, Event}) after 0 -> ok end.

size_of(#{waiting := {_, {curve_tun_socket, Pid, _, _}}}) ->
    {connected, Data} = sys:get_state(Pid),
    tuple_size(Data).

%% Returns the state of the permanently busy sender, once it has begun.
sender_of(#{crowd := {{{curve_tun_socket, Pid, _, _}, _}, _, _}}) ->
    until(fun() -> is_pid(sender(Pid)) end),
    sys:get_state(sender(Pid)).

%% Connections in each state, with work to do: two that echo without a pause, one with several
%% senders, one of them without a pause, one with waiting messages, one with a process in recv, an
%% active one, a handshake in progress, and an accept.
tasks() ->
    Test = self(),
    Echo = spawn_link(fun() ->
               {Client, Server} = Pair = pair(),
               Test ! {echoing, self()},
               Rounds = echo(Client, Server, 0),
               curve_tun_test:stop_pair(Pair),
               Test ! {rounds, self(), Rounds}
           end),
    receive {echoing, Echo} -> ok end,
    Crowd = pair([{send_timeout, infinity}], []),
    Reader = spawn_link(fun() -> taken(element(2, Crowd), #{1 => 0, 2 => 0, 3 => 0}, #{}), Test ! {self(), took_all} end),
    Senders = [spawn_link(fun() -> counting(element(1, Crowd), Who, 1, Reader) end) || Who <- [1, 2, 3]],
    {WaitingClient, _} = Waiting = pair(),
    ok = curve_tun:send_many(WaitingClient, [<<"1">>, <<"2">>]),
    {_, AskedServer} = Asked = pair(),
    Asking = spawn_link(fun() -> Test ! {self(), curve_tun:recv(AskedServer, infinity)} end),
    Active = pair([], [{active, true}]),
    {Listener, Port} = listen([{handshake_timeout, infinity}]),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Begun} = curve_tun:transport_accept(Listener),
    Handshaking = spawn_link(fun() ->
                      {ok, Begun} = curve_tun:handshake(Begun),
                      Test ! {self(), curve_tun:recv(Begun, infinity)},
                      receive never -> ok end
                  end),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Nif = curve_tun_nif:connection_new(),
    {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
    ok = gen_tcp:send(Tcp, Hello),
    {ok, Cookie} = gen_tcp:recv(Tcp, 170, 10000),
    {Listener2, Port2} = listen([{active, true}]),
    Accepting = spawn_link(fun() ->
                    {ok, Accepted} = curve_tun:accept(Listener2, infinity),
                    Test ! {self(), message(Accepted)},
                    receive never -> ok end
                end),
    [until(fun() -> process_info(Pid, status) =:= {status, waiting} end) || Pid <- [Asking, Handshaking, Accepting]],
    #{echo => Echo, crowd => {Crowd, Senders, Reader}, waiting => Waiting, asked => {Asked, Asking}, active => Active,
      handshake => {Tcp, Nif, Cookie, Handshaking}, accept => {Port2, Accepting}, listeners => [Listener, Listener2]}.

echo(Client, Server, N) ->
    receive
        stop -> N
    after N rem 2 ->
        ok = curve_tun:send(Client, <<N:32>>),
        <<N:32>> = curve_tun:recv(Server),
        echo(Client, Server, N + 1)
    end.

%% Sends numbers until told to stop, the first process without a pause, and tells the reader how
%% many.
counting(Socket, Who, N, Reader) ->
    ok = curve_tun:send(Socket, <<Who, N:32>>),
    receive stop -> Reader ! {counted, Who, N}
    after min(1, Who - 1) -> counting(Socket, Who, N + 1, Reader)
    end.

finished(#{echo := Echo, crowd := {Crowd, Senders, Reader}, waiting := {_, WaitingServer} = Waiting,
           asked := {{AskedClient, _} = Asked, Asking}, active := {ActiveClient, ActiveServer} = Active,
           handshake := {Tcp, Nif, Cookie, Handshaking}, accept := {Port, Accepting}, listeners := Listeners}) ->
    Echo ! stop,
    receive {rounds, Echo, Rounds} -> ?assert(Rounds > 0) end,
    %% Each sender's numbers have arrived without a gap.
    [Sender ! stop || Sender <- Senders],
    receive {Reader, took_all} -> ok end,
    [<<"1">>, <<"2">>] = [curve_tun:recv(WaitingServer) || _ <- [1, 2]],
    ok = curve_tun:send(AskedClient, <<"asked">>),
    receive {Asking, Answer} -> <<"asked">> = Answer end,
    ok = curve_tun:send(ActiveClient, <<"active">>),
    <<"active">> = message(ActiveServer),
    {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Nif, Cookie),
    ok = curve_tun_nif:established(Nif, 0),
    {ok, Frame, []} = curve_tun_nif:seal(Nif, [<<"shaken">>]),
    ok = gen_tcp:send(Tcp, [Initiate, Frame]),
    receive {Handshaking, Shaken} -> <<"shaken">> = Shaken end,
    {ok, Client} = connect(Port),
    ok = curve_tun:send(Client, <<"accepted">>),
    receive {Accepting, Accepted} -> <<"accepted">> = Accepted end,
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- [Handshaking, Accepting]],
    gen_tcp:close(Tcp),
    [curve_tun_test:stop_pair(Pair) || Pair <- [Crowd, Waiting, Asked, Active]],
    [ok = curve_tun:close(L) || L <- [Client | Listeners]],
    ok.

taken(Server, Had, Last) ->
    Finished = receive {counted, Who0, N0} -> Last#{Who0 => N0} after 0 -> Last end,
    case Had of
        Finished -> ok;
        _ ->
            case curve_tun:recv(Server, 100) of
                <<Who, N:32>> ->
                    ?assertEqual(map_get(Who, Had) + 1, N),
                    taken(Server, Had#{Who := N}, Finished);
                {error, timeout} ->
                    taken(Server, Had, Finished)
            end
    end.
