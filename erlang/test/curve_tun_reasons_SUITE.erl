%%% Why a connection has ended: reported once, after the last message, and available afterwards.
-module(curve_tun_reasons_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, message/1, no_message/0, until/1, sender/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [a_reset_is_told_to_the_first_who_waits, a_reset_comes_after_the_messages, a_reset_is_told_in_the_active_modes,
     a_reset_above_the_high_water_mark, a_peer_killed_with_something_unread, a_peer_killed_with_nothing_unread,
     a_transport_that_times_out, a_forged_packet, a_peer_that_does_not_read, a_crash, a_sender_that_crashes,
     a_socket_that_is_killed, a_reset_before_the_handshake, a_reset_in_each_state_of_the_handshake,
     a_reset_of_a_client_s_handshake, a_reset_while_somebody_accepts, a_socket_that_is_killed_in_the_handshake,
     a_handshake_that_fails, an_end_in_order_is_no_error, closing_oneself_is_no_reason].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% Returns a raw peer and the server's end of its connection.
raw_pair(Options) ->
    {Listener, Port} = curve_tun_test:listen(Options),
    Test = self(),
    spawn_link(fun() -> Test ! {peer, handed(curve_tun_test:raw_client(Port), Test)}, receive never -> ok end end),
    {ok, Server} = curve_tun:accept(Listener),
    Peer = receive {peer, P} -> P end,
    ok = curve_tun:close(Listener),
    {Peer, Server}.

handed({Tcp, _, _} = Peer, Test) ->
    ok = gen_tcp:controlling_process(Tcp, Test),
    Peer.

reset({Tcp, _, _}) ->
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp).

%% Checks the calls on a connection that has ended for a reason and has reported it.
is_over(Socket, Role, Reason) ->
    {ok, Key} = curve_tun:public_key(),
    [begin
         {error, closed} = curve_tun:recv(Socket, infinity),
         {error, closed} = curve_tun:send(Socket, <<"x">>),
         {error, closed} = curve_tun:peer_public_key(Socket),
         ?assertEqual({ok, [{protocol, {curve_tun, 1, 0}}, {role, Role}, {state, closed}, {peer_public_key, Key},
                            {reason, Reason}]},
                      curve_tun:connection_information(Socket)),
         ok = curve_tun:close(Socket)
     end || _ <- [1, 2]],
    {curve_tun_socket, Pid, _, _} = Socket,
    until(fun() -> not is_process_alive(Pid) end),
    no_message().

a_reset_is_told_to_the_first_who_waits(_) ->
    {Peer, Server} = raw_pair([]),
    Test = self(),
    [begin
         Pid = spawn_link(fun() -> Test ! {N, curve_tun:recv(Server, infinity)} end),
         until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
         {ok, _} = curve_tun:peername(Server)
     end || N <- [1, 2, 3]],
    reset(Peer),
    [{error, econnreset}, {error, closed}, {error, closed}] = [receive {N, Said} -> Said end || N <- [1, 2, 3]],
    is_over(Server, server, econnreset).

a_reset_comes_after_the_messages(_) ->
    {Peer, Server} = raw_pair([]),
    _ = curve_tun_test:raw_send(Peer, [<<"1">>, <<"2">>]),
    reset(Peer),
    %% It is noticed without any call, and visible before the messages are read.
    until(fun() -> curve_tun:peername(Server) =:= {error, closed} end),
    {ok, Information} = curve_tun:connection_information(Server),
    {reason, econnreset} = lists:keyfind(reason, 1, Information),
    <<"1">> = curve_tun:recv(Server),
    <<"2">> = curve_tun:recv(Server),
    {error, econnreset} = curve_tun:recv(Server, 0),
    is_over(Server, server, econnreset).

a_reset_is_told_in_the_active_modes(_) ->
    [begin
         {Peer, Server} = raw_pair([{active, Mode}]),
         _ = curve_tun_test:raw_send(Peer, [<<"1">>]),
         reset(Peer),
         <<"1">> = message(Server),
         _ = [no_message() || Mode =:= once],
         _ = [ok = curve_tun:setopts(Server, [{active, once}]) || Mode =:= once],
         {error, econnreset} = message(Server),
         closed = message(Server),
         is_over(Server, server, econnreset)
     end || Mode <- [true, once, 7]].

%% The socket is not being read then.
a_reset_above_the_high_water_mark(_) ->
    {Peer, Server} = raw_pair([{receive_high_water, 1}]),
    _ = curve_tun_test:raw_send(Peer, [<<"1">>]),
    until(fun() -> {ok, [{recv_oct, N}]} = inet:getstat(curve_tun_test:tcp_socket(Server), [recv_oct]), N > 130 + 226 end),
    _ = curve_tun_test:raw_send(Peer, [<<"2">>]),
    reset(Peer),
    <<"1">> = curve_tun:recv(Server),
    <<"2">> = curve_tun:recv(Server),
    {error, econnreset} = curve_tun:recv(Server),
    is_over(Server, server, econnreset).

%% Starts a separate node with a connection to this one, and returns this end of it.
other_node() ->
    {_, _, Beam} = code:get_object_code(curve_tun),
    {_, _, TestBeam} = code:get_object_code(curve_tun_test),
    Paths = lists:append([["-pa", filename:dirname(filename:absname(B))] || B <- [Beam, TestBeam]]),
    {ok, Node, _} = peer:start(#{connection => standard_io, args => Paths}),
    {ok, _} = peer:call(Node, application, ensure_all_started, [curve_tun]),
    {ok, Key} = peer:call(Node, curve_tun, public_key, []),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    {Listener, Port} = curve_tun_test:listen(),
    {ok, Own} = curve_tun:public_key(),
    Test = self(),
    spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener, 60000)}, receive never -> ok end end),
    ok = peer:call(Node, ?MODULE, connect_and_stay, [Port, Own], 60000),
    Server = receive {accepted, {ok, S}} -> S end,
    ok = curve_tun:close(Listener),
    ok = curve_tun_simple_registry:unregister({127,0,0,1}, Key),
    OsPid = peer:call(Node, os, getpid, []),
    {Node, OsPid, Server, Key}.

%% On that node: a connection that nobody reads.
connect_and_stay(Port, Key) ->
    Caller = self(),
    spawn(fun() ->
        Caller ! {connected, curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {receive_high_water, 1}, {recbuf, 4096}])},
        receive never -> ok end
    end),
    receive {connected, {ok, _}} -> ok end.

killed(OsPid, Server, Key, Reason) ->
    [] = os:cmd("kill -9 " ++ OsPid),
    {error, Reason} = curve_tun:recv(Server, infinity),
    {error, closed} = curve_tun:recv(Server),
    ?assertEqual({ok, [{protocol, {curve_tun, 1, 0}}, {role, server}, {state, closed}, {peer_public_key, Key},
                       {reason, Reason}]},
                 curve_tun:connection_information(Server)).

a_peer_killed_with_something_unread(_) ->
    {_, OsPid, Server, Key} = other_node(),
    Message = binary:copy(<<1>>, 50000),
    ok = curve_tun:send_many(Server, [Message || _ <- lists:seq(1, 100)]),
    killed(OsPid, Server, Key, econnreset).

%% Its system closes in order, which is indistinguishable from a close.
a_peer_killed_with_nothing_unread(_) ->
    {_, OsPid, Server, Key} = other_node(),
    killed(OsPid, Server, Key, closed).

%% The peer stops reading, and the system gives up on it: TCP_USER_TIMEOUT of Linux, in
%% milliseconds.
a_transport_that_times_out(_) ->
    [begin
         {{Tcp, _, _}, Server} = raw_pair([{active, Mode}]),
         ok = curve_tun:setopts(Server, [{raw, 6, 18, <<500:32/native>>}, {sndbuf, 1048576}]),
         %% More than the peer's system buffers unread, less than this end buffers.
         ok = curve_tun:send_many(Server, [binary:copy(<<1>>, 50000) || _ <- [1, 2, 3]]),
         case Mode of
             true -> {error, etimedout} = message(Server), closed = message(Server);
             false -> {error, etimedout} = curve_tun:recv(Server, infinity)
         end,
         is_over(Server, server, etimedout),
         ok = gen_tcp:close(Tcp)
     end || Mode <- [false, true]].

a_forged_packet(_) ->
    {{Tcp, Nif, _}, Server} = raw_pair([]),
    {ok, Frames, []} = curve_tun_nif:seal(Nif, [<<"1">>, <<"2">>]),
    ok = gen_tcp:send(Tcp, [Frames, curve_tun_test:frame(<<0:800>>)]),
    [<<"1">>, <<"2">>, {error, bad_packet}] = [curve_tun:recv(Server) || _ <- [1, 2, 3]],
    is_over(Server, server, bad_packet),
    %% Also to a waiting receiver.
    {{Tcp2, _, _}, Server2} = raw_pair([]),
    ok = gen_tcp:send(Tcp2, curve_tun_test:frame(<<0:800>>)),
    {error, bad_packet} = curve_tun:recv(Server2, infinity),
    is_over(Server2, server, bad_packet).

%% A sender gets the error from its call, and a receiver gets a reason other than a timeout of its
%% own.
a_peer_that_does_not_read(_) ->
    [begin
         {Client, Server} = pair([{active, Mode}, {high_watermark, 4096}, {low_watermark, 1024}, {sndbuf, 4096},
                                  {send_timeout, 200}],
                                 [{receive_high_water, 1}, {recbuf, 4096}]),
         {error, timeout} = send_until_error(Client),
         case Mode of
             true -> {error, send_timeout} = message(Client), closed = message(Client);
             false -> {error, send_timeout} = curve_tun:recv(Client, infinity)
         end,
         is_over(Client, client, send_timeout),
         ok = curve_tun:close(Server)
     end || Mode <- [false, true]].

send_until_error(Socket) ->
    case curve_tun:send(Socket, binary:copy(<<1>>, 10000)) of
        ok -> send_until_error(Socket);
        Error -> Error
    end.

a_crash(_) ->
    {{curve_tun_socket, Pid, _, _} = Client, Server} = pair([{active, true}], []),
    exit(Pid, kill),
    {error, crashed} = message(Client),
    closed = message(Client),
    is_over(Client, client, crashed),
    {error, closed} = curve_tun:recv(Server).

a_sender_that_crashes(_) ->
    [begin
         {{curve_tun_socket, Pid, _, _} = Client, Server} = pair([{active, Mode}], []),
         Test = self(),
         _ = [spawn_link(fun() -> Test ! {received, curve_tun:recv(Client, infinity)} end) || Mode =:= false],
         sent_in_a_row(Client),
         until(fun() -> sent_in_a_row(Client), sender(Pid) =/= none end),
         exit(sender(Pid), kill),
         case Mode of
             true -> {error, crashed} = message(Client), closed = message(Client);
             false -> receive {received, Received} -> {error, crashed} = Received end
         end,
         is_over(Client, client, crashed),
         ok = curve_tun:close(Server)
     end || Mode <- [false, true]].

sent_in_a_row(Socket) ->
    [ok = curve_tun:send(Socket, <<N>>) || N <- lists:seq(1, 50)].

a_socket_that_is_killed(_) ->
    {Client, _} = pair(),
    Tcp = curve_tun_test:tcp_socket(Client),
    exit(Tcp, kill),
    {error, closed} = curve_tun:recv(Client, infinity),
    is_over(Client, client, closed).

%% Checks the calls on a socket whose handshake has failed.
has_failed(Socket, Role, Reason) ->
    {error, closed} = curve_tun:recv(Socket),
    {ok, Information} = curve_tun:connection_information(Socket),
    ?assertEqual([{role, Role}, {state, closed}, {reason, Reason}],
                 [Item || {Key, _} = Item <- Information, lists:member(Key, [role, state, reason])]).

%% A reset has arrived once this end's system reports that there is no peer.
reset_arrives({curve_tun_socket, _, _, _} = Socket, Tcp) ->
    reset_arrives(curve_tun_test:tcp_socket(Socket), Tcp);
reset_arrives(Mine, Tcp) ->
    reset({Tcp, none, none}),
    until(fun() -> inet:peername(Mine) =:= {error, enotconn} end).

%% The client has sent nothing, part of its hello, or all of it: all that matters is that it has
%% left.
a_reset_before_the_handshake(_) ->
    {Listener, Port} = curve_tun_test:listen(),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key),
    [begin
         Tcp = curve_tun_test:raw_connect(Port),
         {ok, Socket} = curve_tun:transport_accept(Listener),
         ok = gen_tcp:send(Tcp, Sent),
         reset_arrives(Socket, Tcp),
         ?assertEqual({error, econnreset}, curve_tun:handshake(Socket)),
         has_failed(Socket, server, econnreset)
     end || Sent <- [<<>>, <<0>>, Hello]],
    ok = curve_tun:close(Listener).

%% Before its hello, in the middle of it, after it, before and after the cookie has arrived, and
%% while a vault is being asked.
a_reset_in_each_state_of_the_handshake(_) ->
    {Listener, Port} = curve_tun_test:listen([{vault, curve_tun_test_vault}]),
    curve_tun_test_vault:well(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    [begin
         Tcp = curve_tun_test:raw_connect(Port),
         {ok, Socket} = curve_tun:transport_accept(Listener),
         Shaking = waits_in(fun() -> curve_tun:handshake(Socket, infinity) end),
         {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, curve_tun_test_vault:public_key()),
         case When of
             silent -> ok;
             half -> ok = gen_tcp:send(Tcp, binary:part(Hello, 0, 50));
             cookie -> ok = gen_tcp:send(Tcp, Hello), {ok, _} = gen_tcp:recv(Tcp, 170, 10000);
             asked ->
                 %% Nobody else joins this meeting.
                 {meet, Counters, _, _} = Meeting = curve_tun_test_vault:meeting(2, 0),
                 curve_tun_test_vault:behave(box_open, Meeting),
                 ok = gen_tcp:send(Tcp, Hello),
                 until(fun() -> counters:get(Counters, 1) =:= 1 end)
         end,
         reset({Tcp, none, none}),
         ?assertEqual({When, {error, econnreset}}, {When, result(Shaking)}),
         has_failed(Socket, server, econnreset),
         curve_tun_test_vault:well()
     end || When <- [silent, half, cookie, asked]],
    ok = curve_tun:close(Listener).

waits_in(Call) ->
    Test = self(),
    Pid = spawn_link(fun() -> Test ! {self(), Call()}, receive never -> ok end end),
    until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
    Pid.

result(Pid) ->
    receive {Pid, Result} -> Result end.

%% With connect, and with handshake/3 over a socket of the program, at either end.
a_reset_of_a_client_s_handshake(_) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    {ok, Key} = curve_tun:public_key(),
    [begin
         Connecting = waits_in(fun() -> curve_tun:connect({127,0,0,1}, Port, [{key, Key}], infinity) end),
         {ok, Tcp} = gen_tcp:accept(Listen, 10000),
         {ok, _} = gen_tcp:recv(Tcp, Read, 10000),
         _ = [ok = gen_tcp:send(Tcp, <<168:16, 1>>) || Read =:= 130],
         reset({Tcp, none, none}),
         ?assertEqual({error, econnreset}, result(Connecting))
     end || Read <- [1, 130]],
    [begin
         Shaking = waits_in(fun() ->
             {ok, Mine} = gen_tcp:connect({127,0,0,1}, Port, [binary, {active, false}]),
             curve_tun:handshake(Mine, Options, infinity)
         end),
         {ok, Tcp} = gen_tcp:accept(Listen, 10000),
         _ = [{ok, _} = gen_tcp:recv(Tcp, 130, 10000) || Options =/= []],
         reset({Tcp, none, none}),
         Result = result(Shaking),
         %% A server's end may not have begun by then.
         ?assert(Result =:= {error, econnreset} orelse Options =:= [] andalso Result =:= {error, enotconn}, Result)
     end || Options <- [[], [{key, Key}]]],
    ok = gen_tcp:close(Listen).

%% An accepting process gets the next client; the reason goes to the log.
a_reset_while_somebody_accepts(_) ->
    {Listener, Port} = curve_tun_test:listen(),
    Accepting = waits_in(fun() -> curve_tun:accept(Listener, infinity) end),
    Log = curve_tun_test:forward_log(debug),
    Before = element(3, curve_tun_test:count()),
    Tcp = curve_tun_test:raw_connect(Port),
    until(fun() -> element(3, curve_tun_test:count()) > Before end),
    reset({Tcp, none, none}),
    receive {log, #{level := debug, meta := #{outcome := refused, reason := Reason}}} -> ?assertEqual(econnreset, Reason)
    after 10000 -> ct:fail(nothing_is_logged)
    end,
    ok = logger:remove_handler(Log),
    ok = logger:set_primary_config(level, notice),
    {ok, Client} = curve_tun_test:connect(Port),
    {ok, _} = result(Accepting),
    ok = curve_tun:close(Client),
    ok = curve_tun:close(Listener).

a_socket_that_is_killed_in_the_handshake(_) ->
    {Listener, Port} = curve_tun_test:listen([{handshake_timeout, infinity}]),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    Mine = curve_tun_test:tcp_socket(Socket),
    Shaking = waits_in(fun() -> curve_tun:handshake(Socket, infinity) end),
    exit(Mine, kill),
    {error, closed} = result(Shaking),
    has_failed(Socket, server, closed),
    gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).

a_handshake_that_fails(_) ->
    {Listener, Port} = curve_tun_test:listen(),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    ok = gen_tcp:send(Tcp, curve_tun_test:frame(<<0:800>>)),
    {error, bad_packet} = curve_tun:handshake(Socket),
    {error, closed} = curve_tun:recv(Socket),
    {error, closed} = curve_tun:peer_public_key(Socket),
    {ok, [{protocol, _}, {role, server}, {state, closed}, {reason, bad_packet}]} = curve_tun:connection_information(Socket),
    gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).

an_end_in_order_is_no_error(_) ->
    [begin
         {Client, Server} = pair([], [{active, Mode}]),
         ok = curve_tun:close(Client),
         case Mode of
             true -> closed = message(Server);
             false -> {error, closed} = curve_tun:recv(Server)
         end,
         is_over(Server, server, closed)
     end || Mode <- [false, true]].

closing_oneself_is_no_reason(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:connection_information(Client),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:connection_information(Client),
    ok = curve_tun:close(Server).
