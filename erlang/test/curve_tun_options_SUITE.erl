%%% Invalid arguments are refused at once, with an error that names them, and leave nothing behind.
-module(curve_tun_options_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/0, connect/2, pair/0, settled/1, until/1]).

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 60000).
-define(KEY, <<9:256/little>>).
-define(HERE, {127,0,0,1}).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [what_means_nothing_at_an_end_is_named, what_gen_tcp_does_not_take_is_named,
     what_has_no_effect_or_no_module_is_named, what_gen_tcp_takes_is_taken,
     options_of_an_open_socket_are_named, a_unix_socket_is_refused, what_is_no_socket_of_the_callers_is_left_alone,
     every_function_and_every_wrong_argument, without_the_application_everything_says_so,
     the_longest_times_and_sizes, another_backend_by_default].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% Returns two connected TCP sockets of the caller.
tcp_pair() -> tcp_pair([{ip, ?HERE}], ?HERE).

tcp_pair(ListenOptions, Host) ->
    {ok, Listen} = gen_tcp:listen(0, ListenOptions ++ [binary, {active, false}]),
    Port = case inet:port(Listen) of
               {ok, P} when is_integer(P) -> P;
               _ -> 0
           end,
    {ok, A} = gen_tcp:connect(Host, Port, [binary, {active, false}]),
    {ok, B} = gen_tcp:accept(Listen, ?PATIENCE),
    ok = gen_tcp:close(Listen),
    {A, B}.

close(Tcps) -> [ok = gen_tcp:close(Tcp) || Tcp <- Tcps].

what_means_nothing_at_an_end_is_named(_) ->
    Before = curve_tun_test:count(),
    Named = fun(Option, Result) -> ?assertEqual({Option, {error, {bad_option, Option}}}, {Option, Result}) end,
    [Named(Option, curve_tun:listen(0, [Option]))
     || Option <- [{key, ?KEY}, {known_servers, "file"}, {first_use, once}, {packet, 2}, {inet_backend, socket}]],
    [Named(Option, connect(1, [Option]))
     || Option <- [{listener, "name"}, {handshakes_max, 1}, {handshakes_per_source, 1}, {packet, 2},
                   {inet_backend, socket}]],
    {A, B} = tcp_pair(),
    [Named(Option, curve_tun:handshake(A, [Option | Key], ?PATIENCE))
     || {Option, Key} <- [{{known_servers, "file"}, []}, {{first_use, once}, []}, {{handshakes_max, 1}, []},
                          {{handshakes_per_source, 1}, []}, {{backlog, 5}, []}, {{ip, ?HERE}, []}, {inet6, []},
                          {{listener, "name"}, [{key, ?KEY}]}, {{registry, curve_tun_simple_registry}, [{key, ?KEY}]},
                          {{packet, 2}, []}]],
    %% It is unchanged.
    ok = gen_tcp:send(A, <<"still">>),
    {ok, <<"still">>} = gen_tcp:recv(B, 5, ?PATIENCE),
    close([A, B]),
    settled(Before).

what_gen_tcp_does_not_take_is_named(_) ->
    Before = curve_tun_test:count(),
    [begin
         ?assertEqual({error, {bad_option, Option}}, curve_tun:listen(0, [{reuseaddr, true}, Option, {nodelay, true}])),
         ?assertEqual({error, {bad_option, Option}}, connect(1, [{reuseaddr, true}, Option, {nodelay, true}]))
     end || Option <- [{no_such_option, 1}, no_such_option, {nodelay, 7}, {linger, yes}, {ip, "nowhere"}, {recbuf, many},
                       {raw, 1, 2}, {1, 2}, "text", <<"text">>, {}]],
    ?assertEqual({error, {bad_option, {backlog, many}}}, curve_tun:listen(0, [{backlog, many}])),
    %% Not the fault of an option.
    [?assertEqual({error, badarg}, curve_tun:listen(Port, [{nodelay, true}])) || Port <- [-1, 65536, "http", none]],
    [?assertEqual({error, badarg}, curve_tun:connect(?HERE, Port, [{key, ?KEY}], ?PATIENCE)) || Port <- [-1, 65536, {}]],
    {A, B} = tcp_pair(),
    ?assertEqual({error, {bad_option, {no_such_option, 1}}}, curve_tun:handshake(A, [{no_such_option, 1}], ?PATIENCE)),
    close([A, B]),
    settled(Before).

what_has_no_effect_or_no_module_is_named(_) ->
    Before = curve_tun_test:count(),
    {A, B} = tcp_pair(),
    Ends = #{listen => fun(Options) -> curve_tun:listen(0, Options) end,
             connect => fun(Options) -> connect(1, Options) end,
             by_name => fun(Options) -> curve_tun:connect("localhost", 1, Options, ?PATIENCE) end,
             client => fun(Options) -> curve_tun:handshake(A, [{key, ?KEY} | Options], ?PATIENCE) end,
             server => fun(Options) -> curve_tun:handshake(B, Options, ?PATIENCE) end},
    [?assertEqual({End, Option, {error, {bad_option, Option}}}, {End, Option, (map_get(End, Ends))([{nodelay, true}, Option])})
     || {Option, At} <-
            [{{listener, Name}, [listen, server]} || Name <- ["a\n", lists:duplicate(256, $a), <<"a", 0>>, <<16#85/utf8>>]]
            ++ [{{registry, Module}, [listen, connect, by_name, server]} || Module <- [no_such, lists]]
            %% It knows servers, and lets nobody in.
            ++ [{{registry, curve_tun_test_keys}, [listen, server]}]
            ++ [{{vault, Module}, [listen, connect, by_name, client, server]} || Module <- [no_such, lists, curve_tun_test_registry]]
            %% They exist, but are not running.
            ++ [{{vault, curve_tun_vault_dummy}, [listen, connect]}, {{registry, curve_tun_dns_registry}, [listen, by_name]}]
            ++ [{{event_handler, Handler}, [listen, connect, by_name, client, server]}
                || Handler <- [no_such, {no_such, 1}, {lists, 1}, {"text", 1}]]
            ++ [{{backlog, 5}, [connect, by_name, client, server]}],
        End <- At],
    %% A client that looks for a server needs only a registry that knows servers.
    ?assertEqual({error, not_found}, curve_tun:connect("localhost", 1, [{registry, curve_tun_test_keys}], ?PATIENCE)),
    %% It is unchanged.
    ok = gen_tcp:send(A, <<"still">>),
    {ok, <<"still">>} = gen_tcp:recv(B, 5, ?PATIENCE),
    close([A, B]),
    {ok, Listener} = curve_tun:listen(0, [{listener, lists:duplicate(255, $a)}]),
    ok = curve_tun:close(Listener),
    settled(Before).

what_gen_tcp_takes_is_taken(_) ->
    Before = curve_tun_test:count(),
    [begin
         {ok, Listener} = curve_tun:listen(0, Options),
         ok = curve_tun:close(Listener)
     end || Options <- [[inet], [inet6], [{ip, ?HERE}], [{ip, {0,0,0,0,0,0,0,1}}], [inet6, {ipv6_v6only, true}],
                        [{backlog, 5}], [{raw, 6, 1, <<1:32/native>>}], [{inet_backend, inet}],
                        [{packet, 0}], [binary], [{mode, binary}], [{reuseaddr, true}, {linger, {false, 0}}, {tos, 0}],
                        [{send_timeout_close, true}, {sndbuf, 65536}, {recbuf, 65536}]]],
    settled(Before).

options_of_an_open_socket_are_named(_) ->
    {Client, Server} = Pair = pair(),
    [?assertEqual({error, {bad_option, Option}}, curve_tun:setopts(Client, [{nodelay, true}, Option]))
     || Option <- [{no_such_option, 1}, {nodelay, 7}, {backlog, 5}, {ip, ?HERE}, inet6, {packet, 2}, {packet, 4}, list,
                   {key, ?KEY}, {vault, curve_tun_vault_nif}, {inet_backend, socket}, {active, maybe_so}]],
    ok = curve_tun:setopts(Client, [{nodelay, true}, binary, {packet, 0}]),
    {error, _} = curve_tun:getopts(Client, [no_such_option]),
    {error, badarg} = curve_tun:getopts(Client, [nodelay | improper]),
    ok = curve_tun:send(Client, <<"1">>),
    <<"1">> = curve_tun:recv(Server, ?PATIENCE),
    curve_tun_test:stop_pair(Pair).

a_unix_socket_is_refused(_) ->
    Before = curve_tun_test:count(),
    %% The name of a Unix socket is short.
    Dir = string:trim(os:cmd("mktemp -d")),
    Path = filename:join(Dir, "s"),
    [?assertEqual({error, {bad_option, Option}}, curve_tun:listen(0, [Option]))
     || Option <- [{ip, {local, Path}}, {ifaddr, {local, Path}}, {ifaddr, #{family => local, path => Path}}, local]],
    false = filelib:is_file(Path),
    [?assertEqual({error, eafnosupport}, curve_tun:connect(Host, 0, [{key, ?KEY}], ?PATIENCE))
     || Host <- [{local, Path}, #{family => local, path => Path}]],
    ?assertEqual({error, badarg}, curve_tun:connect({local, Path}, 0, [{key, ?KEY}, {known_servers, "f"}, {first_use, once}],
                                                    -1)),
    {A, B} = tcp_pair([{ip, {local, Path}}], {local, Path}),
    [?assertEqual({error, eafnosupport}, curve_tun:handshake(Tcp, Options, ?PATIENCE))
     || {Tcp, Options} <- [{A, [{key, ?KEY}]}, {B, []}]],
    close([A, B]),
    ok = file:delete(Path),
    %% A listener made elsewhere.
    {ok, Listen} = gen_tcp:listen(0, [{ip, {local, Path}}]),
    {ok, Fd} = inet:getfd(Listen),
    ?assertMatch({error, _}, curve_tun:listen(0, [{fd, Fd}])),
    _ = gen_tcp:close(Listen),
    _ = file:del_dir_r(Dir),
    settled(Before).

%% One process and port for each, and none left when the call has returned.
what_is_no_socket_of_the_callers_is_left_alone(_) ->
    Before = curve_tun_test:count(),
    {A, B} = tcp_pair(),
    {Closed, Other} = tcp_pair(),
    close([Closed, Other]),
    {ok, Udp} = gen_udp:open(0, [{ip, ?HERE}]),
    {ok, Connected} = gen_udp:open(0, [{ip, ?HERE}]),
    {ok, UdpPort} = inet:port(Udp),
    ok = gen_udp:connect(Connected, ?HERE, UdpPort),
    {ok, Listen} = gen_tcp:listen(0, [{ip, ?HERE}]),
    Program = open_port({spawn, "cat"}, []),
    Whose = spawn_link(fun() -> receive never -> ok end end),
    {C, D} = tcp_pair(),
    ok = gen_tcp:controlling_process(C, Whose),
    {ok, Backend} = gen_tcp:listen(0, [{inet_backend, socket}, {ip, ?HERE}]),
    During = curve_tun_test:count(),
    [begin
         Result = curve_tun:handshake(What, Options, ?PATIENCE),
         ?assertEqual({What, {error, Reason}}, {What, Result})
     end || {What, Reason} <- [{atom, badarg}, {1, badarg}, {"text", badarg}, {{}, badarg}, {self(), badarg}, {make_ref(), badarg},
                               {{sslsocket, 1, 2}, badarg}, {{'$inet', 1, 2}, badarg}, {fun() -> A end, badarg},
                               {Program, badarg}, {Udp, badarg}, {Connected, badarg}, {Listen, enotconn}, {Closed, closed},
                               {C, not_owner}, {Backend, {bad_option, {inet_backend, socket}}}],
            Options <- [[], [{key, ?KEY}]]],
    settled(During),
    {ok, _} = inet:peername(C),
    unlink(Whose),
    exit(Whose, kill),
    close([A, B, D, Listen, Backend]),
    [ok = gen_udp:close(Socket) || Socket <- [Udp, Connected]],
    true = port_close(Program),
    settled(Before).

%% No function raises, whatever it is given, except the documented one, and none leaves anything
%% behind.
every_function_and_every_wrong_argument(_) ->
    {Client, Server} = Pair = pair(),
    {Listener, _} = listen(),
    Before = curve_tun_test:count(),
    Wrong = [atom, 1, -1, 1.0, "text", <<"binary">>, {}, {a, b}, [a | b], self(), make_ref(), #{}, fun() -> ok end,
             {curve_tun_socket, 1, 2, 3}, {curve_tun_socket, self(), 2, 3}, {curve_tun_listen_socket, 1}, 1 bsl 40],
    Sockets = [curve_tun:F(W) || F <- [accept, transport_accept, handshake, recv, close, peername, sockname, peer_public_key,
                                       connection_information, getstat], W <- Wrong],
    Twice = [curve_tun:F(W, V) || F <- [accept, transport_accept, handshake, recv, send, send_many, shutdown,
                                        controlling_process, setopts, getopts], W <- Wrong, V <- Wrong],
    Times = [curve_tun:F(Listener, W) || F <- [accept, transport_accept], W <- Wrong, W =/= 1],
    Calls = [curve_tun:F(Client, W) || F <- [recv, shutdown, controlling_process], W <- Wrong, W =/= 1, not is_pid(W)],
    Lengths = [curve_tun:recv(W, V, 0) || W <- Wrong, V <- [0 | Wrong]] ++ [curve_tun:recv(Client, W, 0) || W <- Wrong]
        ++ [curve_tun:recv(Client, 0, W) || W <- Wrong, W =/= 1],
    Messages = [curve_tun:send(Client, W) || W <- [atom, 1, -1, 1.0, {}, #{}, make_ref(), [a | b]]],
    Lists = [curve_tun:F(Client, W) || F <- [send_many, setopts, getopts], W <- Wrong, W =/= "text"],
    Ends = [curve_tun:connect(W, 1, [{key, ?KEY} | More], 1000)
            || W <- [1, -1, 1.0, {}, {a, b}, [a | b], self(), make_ref(), #{}, fun() -> ok end],
               More <- [[], [{known_servers, "file"}]]]
        ++ [curve_tun:connect(?HERE, W, [{key, ?KEY} | More], 1000)
            || W <- Wrong, W =/= 1, More <- [[], [{known_servers, "file"}]]]
        ++ [curve_tun:connect(?HERE, 1, W, 1000) || W <- Wrong] ++ [curve_tun:connect(?HERE, 1, [W], 1000) || W <- Wrong]
        ++ [curve_tun:connect(?HERE, 1, [{key, ?KEY}], W) || W <- Wrong, W =/= 1]
        ++ [curve_tun:listen(W, []) || W <- Wrong, W =/= 1] ++ [curve_tun:listen(0, W) || W <- Wrong]
        ++ [curve_tun:listen(0, [W]) || W <- Wrong]
        ++ [curve_tun:handshake(W, V, U) || W <- Wrong, V <- [[] | Wrong], U <- [1000, infinity | Wrong]],
    Registry = [curve_tun_simple_registry:F(W, V)
                || F <- [register, unregister, server_keys], W <- Wrong, V <- [?KEY | Wrong]]
        ++ [curve_tun_simple_registry:lookup(W) || W <- Wrong]
        ++ [curve_tun_vault_nif:create_file(W) || W <- [atom, 1, {}, [a | b]]]
        ++ [curve_tun:public_key_from_text(W) || W <- Wrong],
    All = Sockets ++ Twice ++ Times ++ Calls ++ Lengths ++ Messages ++ Lists ++ Ends ++ Registry,
    [?assertMatch({error, _}, Result) || Result <- All],
    [?assert(is_list(curve_tun:format_error(Result))) || Result <- All ++ Wrong],
    [false = curve_tun_simple_registry:verify(W, V) || W <- Wrong, V <- [?KEY | Wrong]],
    [?assertError(badarg, curve_tun:public_key_to_text(W)) || W <- Wrong],
    settled(Before),
    ok = curve_tun:send(Client, <<"1">>),
    <<"1">> = curve_tun:recv(Server, ?PATIENCE),
    ok = curve_tun:close(Listener),
    curve_tun_test:stop_pair(Pair).

without_the_application_everything_says_so(_) ->
    {Client, Server} = pair(),
    {Listener, _} = listen(),
    {A, B} = tcp_pair(),
    curve_tun_test:stop(),
    NotStarted = {error, {not_started, curve_tun}},
    Results = [curve_tun:listen(0, []), curve_tun:connect(?HERE, 1, [{key, ?KEY}]), curve_tun:connect("localhost", 1, []),
               curve_tun:connect("localhost", 1, [{known_servers, "file"}]), curve_tun:public_key(),
               curve_tun:handshake(A, []), curve_tun:handshake(A, [{key, ?KEY}], ?PATIENCE)]
        ++ [R || M <- [curve_tun_simple_registry, curve_tun_dns_registry],
                 R <- [M:handle(), M:lookup(?HERE), M:server_keys(<<"localhost">>, 1)]]
        ++ [curve_tun_simple_registry:register(?HERE, ?KEY), curve_tun_simple_registry:unregister(?HERE, ?KEY),
            curve_tun_simple_registry:problem(), curve_tun_vault_nif:handle(), curve_tun_vault_dummy:handle()],
    [?assertEqual(NotStarted, Result) || Result <- Results],
    ?assertError({not_started, curve_tun}, curve_tun_vault_nif:public_key()),
    ?assertError({not_started, curve_tun}, curve_tun_vault_nif:safe_nonce()),
    false = curve_tun_simple_registry:verify(?HERE, ?KEY),
    %% Errors of options are still reported.
    ?assertEqual({error, {bad_option, {key, ?KEY}}}, curve_tun:listen(0, [{key, ?KEY}])),
    %% Sockets from before are closed.
    [{error, closed} = Result || Result <- [curve_tun:accept(Listener), curve_tun:recv(Client), curve_tun:send(Server, <<>>)]],
    close([A, B]),
    ok = curve_tun_test:start().

the_longest_times_and_sizes(_) ->
    {Listener, Port} = listen(),
    Most = 16#ffffffff,
    Acceptor = spawn_link(fun() ->
                   {ok, S} = curve_tun:accept(Listener, Most),
                   ok = curve_tun:send(S, curve_tun:recv(S, Most)),
                   receive never -> ok end
               end),
    {ok, Key} = curve_tun:public_key(),
    {ok, Socket} = curve_tun:connect(?HERE, Port, [{key, Key}, {handshake_timeout, Most}, {buffer, 1}], Most),
    ok = curve_tun:send(Socket, <<"1">>),
    <<"1">> = curve_tun:recv(Socket, Most),
    [{error, badarg} = Result || Result <- [curve_tun:recv(Socket, Most + 1), curve_tun:accept(Listener, Most + 1),
                                            curve_tun:connect(?HERE, Port, [{key, Key}], Most + 1)]],
    [?assertEqual({error, {bad_option, Option}}, connect(Port, [Option]))
     || Option <- [{handshake_timeout, Most + 1}, {buffer, 1 bsl 31}]],
    unlink(Acceptor),
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener).

%% A node with `-kernel inet_backend socket': sockets that this application opens are ports all the
%% same, and sockets of the other kind from a program are refused.
another_backend_by_default(_) ->
    Path = [Dir || Dir <- code:get_path(), filelib:is_regular(filename:join(Dir, "curve_tun.beam"))
                       orelse filelib:is_regular(filename:join(Dir, atom_to_list(?MODULE) ++ ".beam"))],
    {ok, Peer, _} = peer:start_link(#{connection => standard_io,
                                      args => ["-kernel", "inet_backend", "socket" | lists:append([["-pa", D] || D <- Path])]}),
    ok = peer:call(Peer, ?MODULE, in_another_backend, [], ?PATIENCE),
    ok = peer:stop(Peer).

in_another_backend() ->
    {ok, Probe} = gen_tcp:listen(0, []),
    true = is_tuple(Probe),
    ok = gen_tcp:close(Probe),
    ok = curve_tun_test:start(),
    {Client, Server} = Pair = pair(),
    [begin
         Message = binary:copy(<<"x">>, Size),
         ok = curve_tun:send(From, Message),
         Message = curve_tun:recv(To, ?PATIENCE)
     end || {From, To} <- [{Client, Server}, {Server, Client}], Size <- [0, 1, 1000, 65503]],
    ok = curve_tun:setopts(Client, [{active, once}, {nodelay, true}]),
    ok = curve_tun:send(Server, <<"active">>),
    <<"active">> = curve_tun_test:message(Client),
    {ok, {?HERE, _}} = curve_tun:peername(Server),
    curve_tun_test:stop_pair(Pair),
    Before = curve_tun_test:count(),
    {A, B} = tcp_pair(),
    [{error, {bad_option, {inet_backend, socket}}} = curve_tun:handshake(Tcp, Options, ?PATIENCE)
     || {Tcp, Options} <- [{A, [{key, ?KEY}]}, {B, []}]],
    close([A, B]),
    settled(Before),
    curve_tun_test:stop(),
    ok.
