%%% The functions and their results.
-module(curve_tun_api_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("common_test/include/ct.hrl").
-import(curve_tun_test, [listen/0, listen/1, pair/0, connect/1, connect/2, stop_pair/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [messages_arrive_both_ways, iodata_of_every_shape, empty_and_largest_messages,
     too_large_is_refused_and_the_connection_stays, what_is_no_iodata_is_badarg, send_many_keeps_order,
     send_many_is_all_or_nothing, senders_that_pile_up_are_all_served, a_key_is_required_before_any_connect,
     bad_options_are_named, options_of_gen_tcp_go_through, closed_sockets_say_closed,
     what_was_sent_before_the_close_arrives, shutdown_ends_one_direction, transport_accept_then_handshake,
     an_existing_socket_becomes_a_tunnel, names_addresses_and_keys, statistics_and_options,
     key_text_of_every_length, refused_and_unreachable, wrong_server_key, wrong_kinds_of_arguments,
     first_message_is_not_delayed, both_say_50_megabytes_before_either_reads, ipv6, c_symbols_are_not_exported].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().

messages_arrive_both_ways(_) ->
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send(Client, <<"question">>),
    <<"question">> = curve_tun:recv(Server),
    ok = curve_tun:send(Server, <<"answer">>),
    <<"answer">> = curve_tun:recv(Client),
    stop_pair(Pair).

iodata_of_every_shape(_) ->
    {Client, Server} = Pair = pair(),
    Long = binary:copy(<<"long">>, 1000),
    Shapes = [[], [[], [[]]], "text", [<<>>], [$a, <<"b">>, ["c", [<<"d">>]] | <<"e">>], [Long, Long | Long],
              binary:part(Long, 7, 500)],
    [begin
         ok = curve_tun:send(Client, Shape),
         ?assertEqual(iolist_to_binary(Shape), curve_tun:recv(Server))
     end || Shape <- Shapes],
    stop_pair(Pair).

empty_and_largest_messages(_) ->
    {Client, Server} = Pair = pair(),
    [begin
         Message = crypto:strong_rand_bytes(Size),
         ok = curve_tun:send(Client, Message),
         ?assertEqual(Message, curve_tun:recv(Server))
     end || Size <- [0, 1, 31, 63, 64, 65, 1023, 4096, 16384, 32767, 65502, 65503]],
    stop_pair(Pair).

too_large_is_refused_and_the_connection_stays(_) ->
    {Client, Server} = Pair = pair(),
    [begin
         {error, emsgsize} = curve_tun:send(Client, <<0:(Size * 8)>>),
         {error, emsgsize} = curve_tun:send(Client, [<<0:(Size * 8 - 8)>>, 0])
     end || Size <- [65504, 65535, 65536, 1000000]],
    ok = curve_tun:send(Client, <<"still here">>),
    <<"still here">> = curve_tun:recv(Server),
    stop_pair(Pair).

what_is_no_iodata_is_badarg(_) ->
    {Client, Server} = Pair = pair(),
    [{error, badarg} = curve_tun:send(Client, Bad)
     || Bad <- [atom, 1, 1.5, {tuple}, #{}, self(), [atom], [256], [-1], [a | b], <<1:3>>, [<<1:3>>]]],
    ok = curve_tun:send(Client, <<"fine">>),
    <<"fine">> = curve_tun:recv(Server),
    stop_pair(Pair).

send_many_keeps_order(_) ->
    {Client, Server} = Pair = pair(),
    Messages = [crypto:strong_rand_bytes(N rem 700) || N <- lists:seq(1, 5000)],
    ok = curve_tun:send_many(Client, []),
    ok = curve_tun:send_many(Client, Messages),
    ?assertEqual(Messages, [curve_tun:recv(Server) || _ <- Messages]),
    stop_pair(Pair).

send_many_is_all_or_nothing(_) ->
    {Client, Server} = Pair = pair(),
    {error, emsgsize} = curve_tun:send_many(Client, [<<"first">>, <<0:(65504 * 8)>>]),
    {error, badarg} = curve_tun:send_many(Client, [<<"first">>, atom]),
    {error, badarg} = curve_tun:send_many(Client, [<<"first">> | <<"improper">>]),
    {error, badarg} = curve_tun:send_many(Client, atom),
    ok = curve_tun:send_many(Client, [<<"second">>]),
    <<"second">> = curve_tun:recv(Server),
    stop_pair(Pair).

senders_that_pile_up_are_all_served(_) ->
    {Client, Server} = Pair = pair(),
    Senders = [spawn_link(fun() ->
                   [ok = curve_tun:send(Client, <<S:16, N:16>>) || N <- lists:seq(1, 50)]
               end) || S <- lists:seq(1, 100)],
    Got = [begin <<S:16, N:16>> = curve_tun:recv(Server), {S, N} end || _ <- Senders, _ <- lists:seq(1, 50)],
    %% Each sender's messages arrive in order.
    [?assertEqual(lists:seq(1, 50), [N || {S, N} <- Got, S =:= Sender]) || Sender <- lists:seq(1, 100)],
    stop_pair(Pair).

a_key_is_required_before_any_connect(_) ->
    {ok, Tcp} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Tcp),
    {error, {missing_option, key}} = curve_tun:connect({127,0,0,1}, Port, []),
    {error, timeout} = gen_tcp:accept(Tcp, 50),
    gen_tcp:close(Tcp).

bad_options_are_named(_) ->
    {_, Port} = listen(),
    [?assertEqual({error, {bad_option, Bad}}, connect(Port, [Bad]))
     || Bad <- [{key, <<1>>}, {key, "text"}, {vault, "module"}, {active, maybe_so}, {active, 40000},
                {handshake_timeout, 0}, {receive_high_water, -1}, {packet, 2}, {packet, 1}, {packet, line}, list, {mode, list},
                {header, 2}, {deliver, port}, {handshakes_max, 0}, {handshakes_max, 1 bsl 32},
                {handshakes_per_source, 0}, {handshakes_per_source, none}]],
    ?assertEqual({error, {bad_option, atom}}, curve_tun:connect({127,0,0,1}, Port, atom)),
    ?assertEqual({error, {bad_option, [{key, <<0:256>>} | tail]}},
                 curve_tun:connect({127,0,0,1}, Port, [{key, <<0:256>>} | tail])),
    {error, {bad_option, {no_such_option, 1}}} = connect(Port, [{no_such_option, 1}]),
    {error, {bad_option, {no_such_option, 1}}} = curve_tun:listen(0, [{no_such_option, 1}]),
    {error, {bad_option, {packet, 2}}} = curve_tun:listen(0, [{packet, 2}]).

options_of_gen_tcp_go_through(_) ->
    {Listener, Port} = listen([binary, {packet, 0}, {reuseaddr, true}, {backlog, 5}, {recbuf, 65536}]),
    Acceptor = spawn_link(fun() -> {ok, _} = curve_tun:accept(Listener), receive stop -> ok end end),
    {ok, Socket} = connect(Port, [binary, {packet, 0}, {nodelay, false}, {sndbuf, 65536}]),
    {ok, [{nodelay, false}]} = curve_tun:getopts(Socket, [nodelay]),
    Acceptor ! stop,
    ok = curve_tun:close(Socket).

closed_sockets_say_closed(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:send(Client, <<"x">>),
    {error, closed} = curve_tun:send_many(Client, [<<"x">>]),
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:recv(Client, 0),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:send(Server, <<"x">>),
    {error, closed} = curve_tun:setopts(Server, [{active, once}]),
    {error, closed} = curve_tun:peername(Server),
    {error, closed} = curve_tun:shutdown(Server, write),
    ok = curve_tun:close(Server),
    {Listener, _} = listen(),
    ok = curve_tun:close(Listener),
    ok = curve_tun:close(Listener),
    {error, closed} = curve_tun:accept(Listener),
    {error, closed} = curve_tun:sockname(Listener).

what_was_sent_before_the_close_arrives(_) ->
    {Client, Server} = pair(),
    %% The server's own message is unread at the client: the close must not discard the client's
    %% messages.
    ok = curve_tun:send(Server, <<"unread">>),
    Messages = [<<N:32, 0:(8 * 50000)>> || N <- lists:seq(1, 100)],
    [ok = curve_tun:send(Client, Message) || Message <- Messages],
    ok = curve_tun:close(Client),
    ?assertEqual(Messages, [curve_tun:recv(Server) || _ <- Messages]),
    {error, closed} = curve_tun:recv(Server),
    ok = curve_tun:close(Server).

shutdown_ends_one_direction(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:send(Client, <<"last">>),
    ok = curve_tun:shutdown(Client, write),
    {error, closed} = curve_tun:send(Client, <<"more">>),
    <<"last">> = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Client),
    stop_pair({Client, Server}),
    {Client2, Server2} = pair(),
    ok = curve_tun:shutdown(Server2, read),
    {error, closed} = curve_tun:recv(Server2),
    ok = curve_tun:send(Server2, <<"still sending">>),
    <<"still sending">> = curve_tun:recv(Client2),
    ok = curve_tun:shutdown(Client2, read_write),
    {error, closed} = curve_tun:send(Client2, <<"x">>),
    {error, badarg} = curve_tun:shutdown(Client2, sideways),
    stop_pair({Client2, Server2}).

transport_accept_then_handshake(_) ->
    {Listener, Port} = listen(),
    {error, timeout} = curve_tun:transport_accept(Listener, 10),
    Test = self(),
    spawn_link(fun() -> {ok, S} = connect(Port), Test ! {client, S}, <<"hello">> = curve_tun:recv(S), Test ! done end),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    {error, wrong_state} = curve_tun:send(Socket, <<"early">>),
    {error, wrong_state} = curve_tun:recv(Socket),
    {ok, {{127,0,0,1}, _}} = curve_tun:peername(Socket),
    {error, wrong_state} = curve_tun:peer_public_key(Socket),
    {ok, Socket} = curve_tun:handshake(Socket),
    {error, wrong_state} = curve_tun:handshake(Socket, 100),
    ok = curve_tun:send(Socket, <<"hello">>),
    receive done -> ok end,
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener).

an_existing_socket_becomes_a_tunnel(_) ->
    {ok, Key} = curve_tun:public_key(),
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}, {packet, line}]),
    {ok, Port} = inet:port(Listen),
    Test = self(),
    spawn_link(fun() ->
        {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, [list, {active, false}]),
        ok = gen_tcp:send(Tcp, "STARTTUNNEL\n"),
        {ok, Socket} = curve_tun:handshake(Tcp, [{key, Key}], 5000),
        <<"inside">> = curve_tun:recv(Socket),
        Test ! done
    end),
    {ok, Tcp} = gen_tcp:accept(Listen),
    {ok, <<"STARTTUNNEL\n">>} = gen_tcp:recv(Tcp, 0),
    {ok, Socket} = curve_tun:handshake(Tcp, []),
    ok = curve_tun:send(Socket, <<"inside">>),
    receive done -> ok end,
    ok = curve_tun:close(Socket),
    {error, _} = curve_tun:handshake(Tcp, [], 100),
    gen_tcp:close(Listen).

names_addresses_and_keys(_) ->
    {ok, Key} = curve_tun:public_key(),
    {Client, Server} = Pair = pair(),
    {ok, ClientSide} = curve_tun:sockname(Client),
    {ok, ClientSide} = curve_tun:peername(Server),
    {ok, ServerSide} = curve_tun:sockname(Server),
    {ok, ServerSide} = curve_tun:peername(Client),
    {ok, Key} = curve_tun:peer_public_key(Client),
    {ok, Key} = curve_tun:peer_public_key(Server),
    {ok, Information} = curve_tun:connection_information(Server),
    server = proplists:get_value(role, Information),
    connected = proplists:get_value(state, Information),
    stop_pair(Pair).

statistics_and_options(_) ->
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send(Client, <<0:800>>),
    _ = curve_tun:recv(Server),
    {ok, Statistics} = curve_tun:getstat(Server),
    %% Hello, initiate and one message.
    130 + 226 + 134 = proplists:get_value(recv_oct, Statistics),
    {ok, [{active, false}, {nodelay, true}, {keepalive, true}]} =
        curve_tun:getopts(Client, [active, nodelay, keepalive]),
    ok = curve_tun:setopts(Client, [{nodelay, false}, {active, once}]),
    {ok, [{active, once}, {nodelay, false}]} = curve_tun:getopts(Client, [active, nodelay]),
    {error, {bad_option, {packet, 4}}} = curve_tun:setopts(Client, [{packet, 4}]),
    {error, {bad_option, {exit_on_close, false}}} = curve_tun:setopts(Client, [{exit_on_close, false}]),
    {error, {bad_option, {key, _}}} = curve_tun:setopts(Client, [{key, <<0:256>>}]),
    stop_pair(Pair).

key_text_of_every_length(_) ->
    {ok, Key} = curve_tun:public_key(),
    Text = curve_tun:public_key_to_text(Key),
    44 = byte_size(Text),
    {ok, Key} = curve_tun:public_key_from_text(Text),
    {ok, Key} = curve_tun:public_key_from_text(binary_to_list(Text)),
    [{error, bad_key_text} = curve_tun:public_key_from_text(Bad)
     || Bad <- [<<>>, <<"A">>, binary:part(Text, 0, 43), <<Text/binary, "A">>, <<Text/binary, 0>>,
                <<"!", (binary:part(Text, 1, 43))/binary>>, binary:copy(<<"=">>, 44), [1000], atom,
                %% Not canonical: bits after the last byte are set.
                <<(binary:copy(<<"A">>, 42))/binary, "B=">>]].

refused_and_unreachable(_) ->
    {ok, Tcp} = gen_tcp:listen(0, [{ip, {127,0,0,1}}]),
    {ok, Port} = inet:port(Tcp),
    gen_tcp:close(Tcp),
    {error, econnrefused} = connect(Port),
    {ok, Key} = curve_tun:public_key(),
    {error, nxdomain} = curve_tun:connect("no-such-host.invalid", Port, [{key, Key}], 5000).

wrong_server_key(_) ->
    {Listener, Port} = listen(),
    Test = self(),
    Acceptor = spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener)} end),
    {error, wrong_server_key} = curve_tun:connect({127,0,0,1}, Port, [{key, <<9:256/little>>}], 5000),
    {error, weak_key} = curve_tun:connect({127,0,0,1}, Port, [{key, <<0:256>>}], 5000),
    {ok, Socket} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    unlink(Acceptor),
    ok = curve_tun:close(Socket).

wrong_kinds_of_arguments(_) ->
    {Listener, _} = listen(),
    [{error, badarg} = Result
     || Result <- [curve_tun:send(Listener, <<>>), curve_tun:recv(atom), curve_tun:recv(Listener),
                   curve_tun:accept(atom), curve_tun:accept(Listener, -1), curve_tun:accept(Listener, atom),
                   curve_tun:connect({127,0,0,1}, 1, [], -1), curve_tun:setopts(1, []), curve_tun:getopts(1, []),
                   curve_tun:controlling_process(Listener, atom), curve_tun:peername(1),
                   curve_tun:transport_accept(1), curve_tun:handshake(1, 1), curve_tun:shutdown(Listener, read)]],
    {error, badarg} = curve_tun_simple_registry:register(atom, <<0:256>>),
    {error, badarg} = curve_tun_simple_registry:register({127,0,0,1}, <<0>>),
    {error, bad_address} = curve_tun_simple_registry:register(<<"300.0.0.1">>, <<0:256>>),
    {error, bad_address} = curve_tun_simple_registry:register({{10,0,0,1}, 8}, <<0:256>>).

%% With two writes and Nagle's algorithm the first echo would wait for a delayed acknowledgement, 40
%% ms and more. The fastest of several shows that there is no systematic delay.
first_message_is_not_delayed(_) ->
    Times = [begin
                 {Client, Server} = Pair = pair(),
                 {Time, <<"x">>} = timer:tc(fun() -> ok = curve_tun:send(Client, <<"x">>), curve_tun:recv(Server) end),
                 stop_pair(Pair),
                 Time
             end || _ <- lists:seq(1, 10)],
    ?assert(lists:min(Times) < 35000).

both_say_50_megabytes_before_either_reads(_) ->
    {Client, Server} = pair(),
    Message = crypto:strong_rand_bytes(62500),
    Test = self(),
    Side = fun(Socket) ->
               fun() ->
                   [ok = curve_tun:send(Socket, Message) || _ <- lists:seq(1, 800)],
                   Test ! {said, self()},
                   receive read -> ok end,
                   [Message = curve_tun:recv(Socket, 20000) || _ <- lists:seq(1, 800)],
                   Test ! {heard, self()}
               end
           end,
    Pids = [spawn_link(Side(Socket)) || Socket <- [Client, Server]],
    [receive {said, Pid} -> ok end || Pid <- Pids],
    [Pid ! read || Pid <- Pids],
    [receive {heard, Pid} -> ok end || Pid <- Pids],
    stop_pair({Client, Server}).

ipv6(_) ->
    case curve_tun:listen(0, [inet6, {ip, {0,0,0,0,0,0,0,1}}]) of
        {ok, Listener} ->
            {ok, {_, Port}} = curve_tun:sockname(Listener),
            {ok, Key} = curve_tun:public_key(),
            spawn_link(fun() -> {ok, S} = curve_tun:accept(Listener), ok = curve_tun:send(S, curve_tun:recv(S)) end),
            {ok, Socket} = curve_tun:connect({0,0,0,0,0,0,0,1}, Port, [{key, Key}], 5000),
            ok = curve_tun:send(Socket, <<"six">>),
            <<"six">> = curve_tun:recv(Socket),
            ok = curve_tun:close(Socket);
        {error, Reason} when Reason =:= eafnosupport; Reason =:= eaddrnotavail ->
            curve_tun_test:lacks("ipv6")
    end.

%% The NIF must not bring the C functions into the BEAM.
c_symbols_are_not_exported(_) ->
    Library = filename:join(code:priv_dir(curve_tun), "curve_tun_nif.so"),
    Symbols = string:lexemes(os:cmd("nm -D --defined-only '" ++ Library ++ "'"), "\n"),
    Names = [lists:last(string:lexemes(Symbol, " ")) || Symbol <- Symbols],
    ?assertEqual(["curve_tun_nif_init", "nif_init"], lists:sort(Names)).
