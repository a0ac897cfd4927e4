%%% The NIF's module deleted and loaded again, as `r3:compile()' may do: objects made with it are
%%% closed, new ones work. Each case has a separate node.
-module(curve_tun_reload_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, listen/0, connect/1, message/1, no_message/0, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 180}}].

all() ->
    [connections_and_listeners_are_closed, a_handshake_is_closed, providers_open_again, files_open_again,
     many_times, under_traffic, in_a_turn, deleted_and_not_loaded, streams_are_closed].

in_a_node(Function, Arguments) ->
    curve_tun_test:in_a_node(?MODULE, Function, Arguments).

connections_and_listeners_are_closed(_) -> in_a_node(all_closed, []).
a_handshake_is_closed(_) -> in_a_node(handshakes_closed, []).
providers_open_again(_) -> in_a_node(opened_again, []).
many_times(_) -> in_a_node(again_and_again, []).
under_traffic(_) -> in_a_node(again_and_again_under_traffic, []).
in_a_turn(_) -> in_a_node(while_one_has_the_turn, []).
deleted_and_not_loaded(_) -> in_a_node(deleted, []).
streams_are_closed(_) -> in_a_node(all_streams_closed, []).
files_open_again(Config) ->
    %% All suites of a run share one folder.
    Folder = filename:absname(filename:join(proplists:get_value(priv_dir, Config), ?MODULE_STRING)),
    ok = filelib:ensure_path(Folder),
    in_a_node(opened_again_from_files, [Folder]).

%% Nothing may call the NIF between the deletion and the purge: OTP's code server may then leave the
%% caller, or the loading process, without an answer.
loaded_again() ->
    Connections = curve_tun_connection_sup:children(),
    Held = Connections ++ [Sender || Sender <- [curve_tun_test:sender(C) || C <- Connections], Sender =/= none],
    [catch sys:suspend(Pid) || Pid <- Held],
    true = code:delete(curve_tun_nif),
    _ = code:purge(curve_tun_nif),
    {module, curve_tun_nif} = code:load_file(curve_tun_nif),
    [catch sys:resume(Pid) || Pid <- Held],
    ok.

%% The application is still the same instance, and nothing in it has crashed.
started() ->
    ok = curve_tun_test:start(),
    {curve_tun_test:forward_log(error), whereis(curve_tun_sup), children()}.

children() ->
    [{Id, Pid} || {Id, Pid, _, _} <- lists:sort(supervisor:which_children(curve_tun_sup))].

unharmed({Id, Sup, Children}) ->
    ok = logger:remove_handler(Id),
    [receive {'EXIT', _, normal} -> ok after 0 -> ok end || _ <- lists:seq(1, 10)],
    Sup = whereis(curve_tun_sup),
    ?assertEqual(Children, children()),
    no_message().

may_come_in() ->
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key).

works() ->
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send(Client, <<"works">>),
    <<"works">> = curve_tun:recv(Server),
    curve_tun_test:stop_pair(Pair).

all_closed() ->
    Before = started(),
    {Idle, IdlePeer} = pair(),
    {Active, ActiveServer} = pair([{active, true}], []),
    {Client, Server} = pair(),
    {Asked, AskedServer} = pair(),
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>]),
    {Listener, _} = listen(),
    Test = self(),
    Waiting = [spawn_link(fun() -> Test ! {self(), Wait()} end)
               || Wait <- [fun() -> curve_tun:recv(Asked, infinity) end, fun() -> curve_tun:accept(Listener, infinity) end]],
    [until(fun() -> process_info(Pid, status) =:= {status, waiting} end) || Pid <- Waiting],
    until(fun() -> curve_tun_connection_sup:children() =/= [] andalso waiting_bytes(Server) > 0 end),
    ok = loaded_again(),
    {error, closed} = curve_tun:recv(Idle, infinity),
    {error, closed} = curve_tun:send(AskedServer, <<"x">>),
    {error, closed} = curve_tun:send_many(Active, [<<"x">>]),
    [<<"1">>, <<"2">>, {error, closed}] = [curve_tun:recv(Server, infinity) || _ <- [1, 2, 3]],
    closed = message(Active),
    {ok, _} = curve_tun:public_key(),
    [receive {Pid, Said} -> ?assertEqual({error, closed}, Said) end || Pid <- Waiting],
    {error, closed} = curve_tun:accept(Listener),
    [begin
         {error, closed} = curve_tun:connection_information(S),
         {error, closed} = curve_tun:peer_public_key(S),
         {error, closed} = curve_tun:recv(S),
         {error, closed} = curve_tun:send(S, <<"x">>),
         {error, closed} = curve_tun:setopts(S, [{active, true}]),
         ok = curve_tun:close(S)
     end || S <- [Idle, IdlePeer, Active, ActiveServer, Client, Server, Asked, AskedServer]],
    until(fun() -> curve_tun_connection_sup:children() =:= [] orelse [sys:get_status(C) || C <- curve_tun_connection_sup:children()] end),
    0 = map_size(sys:get_state(curve_tun_cookie)),
    unharmed(Before).

%% One that is read, one with bytes that wait, one that waits to send, and one that is closing.
all_streams_closed() ->
    Before = started(),
    Options = [{packet, 4}],
    {Read, _} = pair(Options, Options),
    {Sender, Full} = pair(Options, Options),
    ok = curve_tun:send(Sender, binary:copy(<<1>>, 100000)),
    until(fun() -> waiting_bytes(Full) > 0 end),
    {Closing, _} = pair(Options, Options),
    ok = curve_tun:close(Closing),
    {Listener, Port} = curve_tun_test:listen(Options),
    Test = self(),
    Acceptor = spawn_link(fun() -> curve_tun:accept(Listener, infinity) end),
    until(fun() -> process_info(Acceptor, status) =:= {status, waiting} end),
    true = erlang:suspend_process(Acceptor),
    {ok, Early} = curve_tun_test:connect(Port, [{send_timeout, infinity} | Options]),
    Waiting = [spawn_link(fun() -> Test ! {self(), Wait()} end)
               || Wait <- [fun() -> curve_tun:recv(Read, infinity) end,
                           fun() -> curve_tun:send(Early, binary:copy(<<1>>, 100000)) end]],
    [until(fun() -> process_info(Pid, status) =:= {status, waiting} end) || Pid <- Waiting],
    {ok, _} = curve_tun:peername(Early),
    ok = loaded_again(),
    {error, closed} = curve_tun:recv(Early),
    {error, closed} = curve_tun:shutdown(Sender, write),
    [receive {Pid, Said} -> ?assertEqual({error, closed}, Said) end || Pid <- Waiting],
    ?assertEqual(100000, byte_size(curve_tun:recv(Full))),
    {error, closed} = curve_tun:recv(Full),
    true = erlang:resume_process(Acceptor),
    unharmed(Before).

waiting_bytes({curve_tun_socket, Pid, _, _}) ->
    {status, _, _, [_, _, _, _, Items]} = sys:get_status(Pid),
    [#{waiting_bytes := Bytes}] = [Data || {data, [{"State", {_, Data}}]} <- Items],
    Bytes.

handshakes_closed() ->
    Before = started(),
    {Listener, Port} = listen(),
    Test = self(),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Begun} = curve_tun:transport_accept(Listener),
    spawn_link(fun() -> Test ! {handshake, curve_tun:handshake(Begun)} end),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key),
    ok = gen_tcp:send(Tcp, Hello),
    {ok, _} = gen_tcp:recv(Tcp, 170, 10000),
    Tcp2 = curve_tun_test:raw_connect(Port),
    {ok, NotBegun} = curve_tun:transport_accept(Listener),
    ok = loaded_again(),
    ok = gen_tcp:send(Tcp, <<226:16, 0:(8 * 226)>>),
    receive {handshake, Said} -> {error, closed} = Said end,
    {error, closed} = curve_tun:handshake(NotBegun),
    <<>> = curve_tun_test:raw_closed(Tcp2),
    %% They have told their listener.
    {error, closed} = curve_tun:accept(Listener, infinity),
    unharmed(Before).

%% What was only in memory is new, as after a restart of the application.
opened_again() ->
    Before = started(),
    {ok, Key} = curve_tun:public_key(),
    ok = loaded_again(),
    {ok, Other} = curve_tun:public_key(),
    ?assertNotEqual(Key, Other),
    {ok, Other} = curve_tun:public_key(),
    Other = curve_tun_vault_nif:public_key(),
    {error, not_found} = curve_tun_simple_registry:lookup({127,0,0,1}),
    ok = may_come_in(),
    works(),
    unharmed(Before).

opened_again_from_files(Folder) ->
    [Vault, Peers, Known] = [filename:join(Folder, Name) || Name <- ["vault", "peers", "known"]],
    {ok, Key} = curve_tun_vault_nif:create_file(Vault),
    ok = file:write_file(Peers, ["127.0.0.1 ", curve_tun:public_key_to_text(Key), "\n"]),
    ok = file:change_mode(Peers, 8#600),
    ok = application:load(curve_tun),
    [ok = application:set_env(curve_tun, Name, Path) || {Name, Path} <- [{vault_file, Vault}, {registry_file, Peers}]],
    Before = started(),
    trusted(Key, Known, remember),
    %% They hold the vault until they are closed.
    {Client, _} = pair(),
    {Listener, _} = listen(),
    ok = loaded_again(),
    {ok, Key} = curve_tun:public_key(),
    works(),
    trusted(Key, Known, remember),
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:accept(Listener),
    unharmed(Before).

trusted(Key, Known, FirstUse) ->
    {Listener, Port} = listen(),
    Test = self(),
    spawn_link(fun() -> {ok, _} = curve_tun:accept(Listener, infinity), Test ! {accepted, Listener}, receive never -> ok end end),
    {ok, Client} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {known_servers, Known}, {first_use, FirstUse}], 10000),
    %% The server's end may be connected slightly later.
    receive {accepted, Listener} -> ok end,
    ok = curve_tun:close(Client),
    ok = curve_tun:close(Listener).

%% With a process in recv, and a sender that may still hold the writer lock.
again_and_again() ->
    Before = started(),
    [begin
         ok = may_come_in(),
         {Client, Server} = pair(),
         Receiver = spawn_monitor(fun() -> until_closed(fun() -> curve_tun:recv(Client, infinity) end) end),
         [ok = curve_tun:send(Client, <<N>>) || N <- lists:seq(1, 100)],
         [<<N>> = curve_tun:recv(Server) || N <- lists:seq(1, 100)],
         ok = loaded_again(),
         until_closed(fun() -> curve_tun:send(Client, <<"x">>) end),
         until_closed(fun() -> curve_tun:recv(Server) end),
         receive {'DOWN', Ref, process, Receiving, Why} when {Receiving, Ref} =:= Receiver -> ?assertEqual(normal, Why) end
     end || _ <- lists:seq(1, 20)],
    ok = may_come_in(),
    works(),
    unharmed(Before).

%% With several senders and one receiver running all the time. Their calls load the module: with one
%% more process that loads it explicitly at the same time, OTP's code server may leave a caller
%% without an answer.
again_and_again_under_traffic() ->
    Before = started(),
    [begin
         ok = may_come_in(),
         {Client, Server} = pair(),
         Sends = lists:duplicate(3, fun() -> curve_tun:send(Client, <<"x">>) end),
         Calls = [fun() -> curve_tun:recv(Server, infinity) end | Sends],
         Callers = [spawn_monitor(fun() -> until_closed(Call) end) || Call <- Calls],
         %% They have started.
         ok = curve_tun:send(Server, <<"y">>),
         <<"y">> = curve_tun:recv(Client, 10000),
         true = code:delete(curve_tun_nif),
         _ = code:purge(curve_tun_nif),
         [receive {'DOWN', Ref, process, Pid, Why} -> ?assertEqual(normal, Why) end || {Pid, Ref} <- Callers],
         {ok, _} = curve_tun:public_key()
     end || _ <- lists:seq(1, 20)],
    until(fun() -> senders() =:= [] end),
    ok = may_come_in(),
    works(),
    unharmed(Before).

%% Returns the loading process, once the module is purged.
load_explicitly() ->
    Caller = self(),
    Loading = spawn_link(fun() ->
                  true = code:delete(curve_tun_nif),
                  _ = code:purge(curve_tun_nif),
                  Caller ! {purged, self()},
                  _ = code:load_file(curve_tun_nif)
              end),
    receive {purged, Loading} -> unlink(Loading), Loading end.

%% One process sends more than the peer takes, and holds the writer lock. The sender waits for it,
%% with a message of another process.
while_one_has_the_turn() ->
    Before = started(),
    {Client, _} = pair([{send_timeout, infinity}], []),
    Test = self(),
    Sending = fun(Messages) ->
                  spawn_link(fun() ->
                      Test ! {self(), curve_tun:send_many(Client, Messages)},
                      receive stop -> ok end
                  end)
              end,
    Writer = Sending(lists:duplicate(2000, <<0:(8 * 65000)>>)),
    until(fun() -> {status, waiting} =:= process_info(Writer, status) end),
    Other = Sending([<<"x">>]),
    Where = {current_function, {curve_tun_sender, turn_comes, 2}},
    until(fun() -> [process_info(Pid, current_function) || Pid <- senders()] =:= [Where] end),
    Loading = load_explicitly(),
    {ok, _} = curve_tun:public_key(),
    exit(Loading, kill),
    [receive {Pid, Said} -> ?assertEqual({error, closed}, Said) end || Pid <- [Writer, Other]],
    %% The writer lives on; nobody waits for its lock.
    until(fun() -> senders() =:= [] end),
    [begin unlink(Pid), Pid ! stop end || Pid <- [Writer, Other]],
    ok = may_come_in(),
    works(),
    unharmed(Before).

senders() ->
    [Pid || Pid <- processes(), {dictionary, D} <- [process_info(Pid, dictionary)],
            lists:member({'$initial_call', {curve_tun_sender, init, 1}}, D)].

until_closed(Do) ->
    case Do() of
        ok -> until_closed(Do);
        Message when is_binary(Message) -> until_closed(Do);
        {error, closed} -> ok
    end.

%% The module is loaded on demand.
deleted() ->
    Before = started(),
    {Client, Server} = pair(),
    true = code:delete(curve_tun_nif),
    _ = code:purge(curve_tun_nif),
    {error, closed} = curve_tun:recv(Server, infinity),
    {error, closed} = curve_tun:send(Client, <<"x">>),
    ok = may_come_in(),
    works(),
    {error, closed} = curve_tun:recv(Client, infinity),
    unharmed(Before).
