%%% Secrets are gone when they are no longer needed: the whole address space of a node is searched
%%% for them, from outside.
%%%
%%% The node runs with reproducible random bytes (`tests/support/known_random.c'), so each secret
%%% that it makes is known here, and what any two of them agree on. None of that is ever sent to the
%%% node.
-module(curve_tun_wiped_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {minutes, 10}}].

all() -> [no_secret_of_a_node_is_in_memory_after_its_time, no_core_dump_of_a_node_has_a_long_term_or_minute_key].

init_per_suite(Config) ->
    ct:timetrap({minutes, 30}),
    Folder = proplists:get_value(priv_dir, Config),
    Root = curve_tun_interop_SUITE:root(filename:dirname(filename:absname(code:which(?MODULE)))),
    Known = filename:join(Folder, "known_random.so"),
    {0, _} = curve_tun_interop_SUITE:run("cc", ["-shared", "-fPIC", "-O1", "-o", Known,
                                                filename:join([Root, "tests", "support", "known_random.c"])], 60000),
    [{tool, curve_tun_vaults_SUITE:tool()}, {known, Known} | Config].

end_per_suite(_) -> ok.

no_secret_of_a_node_is_in_memory_after_its_time(Config) ->
    Folder = proplists:get_value(priv_dir, Config),
    Passphrase = filename:join(Folder, "passphrase"),
    Sealed = filename:join(Folder, "sealed"),
    %% Not a literal, since this module is loaded in the node, too.
    Words = binary:encode_hex(crypto:strong_rand_bytes(16)),
    ok = file:write_file(Passphrase, Words),
    ok = file:change_mode(Passphrase, 8#600),
    {0, _} = curve_tun_interop_SUITE:run(proplists:get_value(tool, Config),
                                         ["keygen", "--vault", Sealed, "--passphrase-file", Passphrase, "--cost",
                                          "interactive"], 60000),
    {Node, Pid, Do} = start_node(Config, "wiped_memory"),
    [Long, _NonceKey] = AtFirst = Do(start),
    ?assertEqual([1, 1], counts(Pid, AtFirst)),
    First = Do(listen),
    [_, _, Minute] = First,
    ?assertEqual([1, 1, 1], counts(Pid, First)),

    %% The lifetime of the message keys in memory shows that the search works.
    [_, _, _, ClientShort, ServerShort] = Do(connect),
    [HelloRaw, Hello | _] = agreed(ClientShort, Long),
    [Raw, Shared | Messages] = agreed(ClientShort, ServerShort),
    [VouchRaw, Vouch | _] = agreed(Long, Long),
    gone(Pid, [ClientShort, ServerShort, HelloRaw, Hello, Raw, Shared, VouchRaw], connected),
    ?assertEqual([2, 2], counts(Pid, Messages)),
    ?assertEqual([1], counts(Pid, [Vouch])),

    [begin
         Keys = Do(What),
         ?assert(What =:= close orelse length(Keys) > length(First) + 2),
         gone(Pid, all_agreed(Keys) ++ lists:nthtail(3, Keys), What),
         ?assertEqual([1, 1], counts(Pid, AtFirst))
     end || What <- [close, abort, fail]],

    %% The file's keys are not drawn in the node: the search is for its passphrase.
    _ = Do({open_sealed, list_to_binary(Sealed), list_to_binary(Passphrase)}),
    gone(Pid, [Words], passphrase),

    %% A minute key of a server whose clock the test controls.
    Before = length(Do(server)),
    Own = lists:last(Do(nothing)),
    ?assertEqual([1], counts(Pid, [Own])),
    _ = Do({tick, 60000}),
    ?assertEqual([1], counts(Pid, [Own])),
    After = Do({tick, 120000}),
    ?assertEqual(Before + 2, length(After)),
    gone(Pid, [Own], minute),

    Last = Do(stop),
    gone(Pid, [Vouch | Last], stopped),
    true = lists:member(Minute, Last),
    peer:stop(Node).

no_core_dump_of_a_node_has_a_long_term_or_minute_key(Config) ->
    {_Node, Pid, Do} = start_node(Config, "wiped_core"),
    _ = Do(start),
    _ = Do(listen),
    [Long, NonceKey, Minute, ClientShort, ServerShort] = Do(connect),
    [_, Kept | _] = agreed(Long, Long),
    Guarded = [Long, NonceKey, Minute, Kept],
    ?assertEqual([1, 1, 1, 1], counts(Pid, Guarded)),
    Core = core_of(Pid, filename:join(proplists:get_value(priv_dir, Config), "wiped_core")),
    Ranges = [{0, filelib:file_size(Core)}],
    ?assertEqual([0, 0, 0, 0], counts_in(Core, Ranges, Guarded)),
    %% The message keys show that the dump contains the node's memory.
    [_, _ | Messages] = agreed(ClientShort, ServerShort),
    ?assertEqual([2, 2], counts_in(Core, Ranges, Messages)),
    ok = file:delete(Core).

%% Makes the kernel dump the process, which ends. Where the system passes dumps to a program of its
%% own, gdb makes one.
core_of(Pid, Folder) ->
    {ok, Pattern} = file:read_file("/proc/sys/kernel/core_pattern"),
    Before = filelib:wildcard(filename:join(Folder, "*")),
    case binary:match(Pattern, [<<"|">>, <<"/">>]) of
        nomatch ->
            {0, _} = curve_tun_interop_SUITE:run("kill", ["-ABRT", Pid], 10000),
            curve_tun_test:until(fun() -> not filelib:is_dir("/proc/" ++ Pid) end, 120000);
        _ ->
            {0, _} = curve_tun_interop_SUITE:run("gcore", ["-o", filename:join(Folder, "core"), Pid], 120000),
            {0, _} = curve_tun_interop_SUITE:run("kill", ["-KILL", Pid], 10000)
    end,
    [Core] = filelib:wildcard(filename:join(Folder, "*")) -- Before,
    Core.

%% Starts a node with known random bytes, in a separate folder. Returns also a function that makes
%% it do something and returns all keys it has drawn until then.
start_node(Config, Name) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:make_dir(Folder),
    Draws = filename:join(Folder, "draws"),
    Begin = "cd \"$0\" && ulimit -c unlimited && exec erl \"$@\"",
    {ok, Node, _} = peer:start(#{connection => standard_io, wait_boot => 60000, args => ["-pa" | code:get_path()],
                                 exec => {"/bin/sh", ["-c", Begin, Folder]},
                                 env => [{"LD_PRELOAD", proplists:get_value(known, Config)}, {"KNOWN_RANDOM", Draws}]}),
    Pid = peer:call(Node, os, getpid, []),
    ok = peer:call(Node, ?MODULE, begin_here, []),
    {Node, Pid, fun(What) -> ok = peer:call(Node, ?MODULE, command, [What], 120000), keys(Draws, Pid) end}.

%%% On the node

%% A process that holds the objects that the commands make.
begin_here() ->
    Here = self(),
    ok = logger:set_primary_config(level, none),
    Holder = spawn(fun() ->
                 true = register(?MODULE, self()),
                 %% A connection that is killed takes its controller down.
                 process_flag(trap_exit, true),
                 Here ! {self(), ready},
                 hold(#{})
             end),
    receive {Holder, ready} -> ok end.

command(What) ->
    Ref = monitor(process, ?MODULE),
    ?MODULE ! {What, self()},
    receive
        {What, done} -> ok;
        {'DOWN', Ref, process, _, Reason} -> {failed, What, Reason}
    end.

hold(State) ->
    receive {What, From} when is_pid(From) ->
        New = do(What, State),
        From ! {What, done},
        hold(New)
    end.

do(nothing, State) ->
    State;
do(start, State) ->
    ok = curve_tun_test:start(),
    State;
do(listen, State) ->
    {Listener, Port} = curve_tun_test:listen(),
    Here = self(),
    spawn_link(fun() -> accept(Listener, Here) end),
    State#{port => Port};
do(connect, #{port := Port} = State) ->
    {ok, Client} = curve_tun_test:connect(Port),
    Server = receive {accepted, by_listener, S} -> S end,
    ok = curve_tun:send(Client, <<"to the server">>),
    <<"to the server">> = curve_tun:recv(Server),
    ok = curve_tun:send(Server, <<"to the client">>),
    <<"to the client">> = curve_tun:recv(Client),
    State#{pair => {Client, Server}};
do(close, #{pair := Pair} = State) ->
    curve_tun_test:stop_pair(Pair),
    maps:remove(pair, State);
%% Handshakes that end at each of their steps.
do(abort, #{port := Port} = State) ->
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Key} = curve_tun:public_key(),
    Begin = fun() ->
                Tcp = curve_tun_test:raw_connect(Port),
                Nif = curve_tun_nif:connection_new(),
                {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
                {Tcp, Nif, Hello}
            end,
    {Tcp0, Nif0, _} = Begin(),
    {Tcp1, Nif1, Hello1} = Begin(),
    ok = gen_tcp:send(Tcp1, Hello1),
    {ok, _} = gen_tcp:recv(Tcp1, 170, 60000),
    {Tcp2, Nif2, Hello2} = Begin(),
    ok = gen_tcp:send(Tcp2, [Hello2, <<0:2000>>]),
    _ = curve_tun_test:raw_closed(Tcp2),
    {Tcp3, Nif3, Hello3} = Begin(),
    ok = gen_tcp:send(Tcp3, Hello3),
    {ok, _} = gen_tcp:recv(Tcp3, 170, 60000),
    {error, bad_packet} = curve_tun_nif:handshake(Nif3, <<0:2000>>),
    [ok = gen_tcp:close(Tcp) || Tcp <- [Tcp0, Tcp1, Tcp2, Tcp3]],
    [ok = curve_tun_nif:close(Nif) || Nif <- [Nif0, Nif1, Nif2, Nif3]],
    State;
%% Refusals: a weak key, a wrong one, an unknown client, boxes that do not open, a connection that
%% is killed.
do(fail, #{port := Port} = State) ->
    {ok, Key} = curve_tun:public_key(),
    {error, _} = curve_tun:connect({127,0,0,1}, Port, [{key, <<0:256>>}]),
    {error, wrong_server_key} = curve_tun:connect({127,0,0,1}, Port, [{key, <<9:256/little>>}], 60000),
    {error, failed_verification} = curve_tun_vault_nif:box_open(<<0:256>>, <<"CurveCPV", 0:128>>, Key),
    {'EXIT', _} = (catch curve_tun_vault_nif:box(<<"m">>, <<"CurveCPV", 0:128>>, Key)),
    ok = curve_tun_simple_registry:unregister({127,0,0,1}, Key),
    {ok, Refused} = curve_tun_test:connect(Port),
    {error, closed} = curve_tun:recv(Refused, 60000),
    ok = curve_tun:close(Refused),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    #{pair := {{curve_tun_socket, Client, _, _}, {curve_tun_socket, Server, _, _}}} = do(connect, State),
    [exit(Pid, kill) || Pid <- [Client, Server]],
    State;
do({open_sealed, File, PassphraseFile}, State) ->
    {error, wrong_passphrase} = curve_tun_nif:vault_open_file(File, none),
    {ok, Sealed} = curve_tun_nif:vault_open_file(File, PassphraseFile),
    {error, vault_in_use} = curve_tun_nif:vault_open_file(File, PassphraseFile),
    State#{sealed => Sealed};
do(server, State) ->
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Server} = curve_tun_nif:server_new(Vault, curve_tun_nif:registry_new(), 10, 0, <<>>, 0),
    State#{server => Server};
do({tick, Ms}, #{server := Server} = State) ->
    {ok, _} = curve_tun_nif:server_tick(Server, Ms),
    State;
do(stop, _State) ->
    curve_tun_test:stop(),
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    #{}.

accept(Listener, Controller) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Server} ->
            ok = curve_tun:controlling_process(Server, Controller),
            Controller ! {accepted, by_listener, Server},
            accept(Listener, Controller);
        {error, closed} ->
            ok
    end.

%%% The search

%% Returns the keys that the node has drawn: each draw of 32 bytes.
keys(Draws, Pid) ->
    {ok, Text} = file:read_file(Draws),
    Lines = [string:lexemes(Line, " ") || Line <- string:lexemes(binary_to_list(Text), "\n")],
    [drawn(list_to_integer(Number))
     || [P | _] = Line <- Lines, P =:= Pid, [Number, "32"] <- [lists:nthtail(length(Line) - 2, Line)]].

%% Returns what `known_random.c' gives.
drawn(Number) ->
    << <<(mix((Number bsl 32) + Word)):64/little>> || Word <- [1, 2, 3, 4] >>.

mix(W0) ->
    W1 = ((W0 bxor (W0 bsr 30)) * 16#bf58476d1ce4e5b9) band 16#ffffffffffffffff,
    W2 = ((W1 bxor (W1 bsr 27)) * 16#94d049bb133111eb) band 16#ffffffffffffffff,
    W2 bxor (W2 bsr 31).

%% Returns what two secrets agree on: the raw X25519 secret, the box key made of it, and the keys of
%% the messages of each side.
agreed(A, B) ->
    {Public, _} = crypto:generate_key(ecdh, x25519, B),
    Raw = crypto:compute_key(ecdh, Public, A, x25519),
    Key = hsalsa20(Raw, <<0:128>>),
    [Raw, Key, hsalsa20(Key, <<"CurveCP-client-M">>), hsalsa20(Key, <<"CurveCP-server-M">>)].

all_agreed(Keys) ->
    lists:append([agreed(A, B) || {I, A} <- lists:enumerate(Keys), B <- lists:nthtail(I, Keys)]).

hsalsa20(Key, In) ->
    <<K0:4/binary-unit:32, K1:4/binary-unit:32>> = Key,
    Words = fun(Bytes) -> [W || <<W:32/little>> <= Bytes] end,
    [C0, C1, C2, C3] = Words(<<"expand 32-byte k">>),
    Start = [C0] ++ Words(K0) ++ [C1] ++ Words(In) ++ [C2] ++ Words(K1) ++ [C3],
    End = lists:foldl(fun(_, X) -> double_round(X) end, list_to_tuple(Start), lists:seq(1, 10)),
    << <<(element(I + 1, End)):32/little>> || I <- [0, 5, 10, 15, 6, 7, 8, 9] >>.

double_round(X) ->
    Columns = [{0, 4, 8, 12}, {5, 9, 13, 1}, {10, 14, 2, 6}, {15, 3, 7, 11}],
    Rows = [{0, 1, 2, 3}, {5, 6, 7, 4}, {10, 11, 8, 9}, {15, 12, 13, 14}],
    lists:foldl(fun quarter/2, X, Columns ++ Rows).

quarter({A, B, C, D}, X) ->
    lists:foldl(fun({To, P, Q, N}, Y) ->
                    Sum = (element(P + 1, Y) + element(Q + 1, Y)) band 16#ffffffff,
                    Turned = ((Sum bsl N) bor (Sum bsr (32 - N))) band 16#ffffffff,
                    setelement(To + 1, Y, element(To + 1, Y) bxor Turned)
                end, X, [{B, A, D, 7}, {C, B, A, 9}, {D, C, B, 13}, {A, D, C, 18}]).

%% Checks that none of them is in memory, now or in a moment: the BEAM takes its time to free what
%% is not used any more.
gone(Pid, Needles, When) ->
    gone(Pid, Needles, When, 100).

gone(Pid, Needles, When, Tries) ->
    case [{I, N} || {I, N} <- lists:enumerate(counts(Pid, Needles)), N > 0] of
        [] -> ok;
        _ when Tries > 0 -> timer:sleep(100), gone(Pid, Needles, When, Tries - 1);
        Found -> ct:fail({found, When, Found})
    end.

%% Returns how often each of them occurs in the memory of the process.
counts(Pid, Needles) ->
    {ok, Maps} = file:read_file("/proc/" ++ Pid ++ "/maps"),
    counts_in("/proc/" ++ Pid ++ "/mem", ranges(Maps), Needles).

%% Returns how often each of them occurs in these ranges of a file.
counts_in(File, Ranges, Needles) ->
    {ok, Memory} = file:open(File, [read, raw, binary]),
    Pattern = binary:compile_pattern(lists:usort(Needles)),
    Overlap = lists:max([byte_size(Needle) || Needle <- Needles]) - 1,
    Found = lists:append([found(Memory, Range, Pattern, Overlap) || Range <- Ranges]),
    ok = file:close(Memory),
    [length([F || F <- Found, F =:= Needle]) || Needle <- Needles].

%% The readable ranges, except for read-only pages of a file.
ranges(Maps) ->
    [{binary_to_integer(Start, 16), binary_to_integer(End, 16)}
     || Line <- binary:split(Maps, <<"\n">>, [global, trim]),
        [Range, <<"r", W, _/binary>>, _, _, Inode | Name] <- [string:lexemes(Line, " ")],
        W =:= $w orelse Inode =:= <<"0">>,
        not lists:any(fun(N) -> lists:member(N, [<<"[vvar]">>, <<"[vdso]">>, <<"[vsyscall]">>]) end, Name),
        [Start, End] <- [binary:split(Range, <<"-">>)]].

-define(PIECE, (1 bsl 22)).

found(_Memory, {At, End}, _Pattern, Overlap) when End - At =< Overlap ->
    [];
found(Memory, {At, End}, Pattern, Overlap) ->
    Size = min(?PIECE, End - At),
    case file:pread(Memory, At, Size) of
        {ok, Bytes} ->
            Here = [binary:part(Bytes, Place) || Place <- binary:matches(Bytes, Pattern)],
            case byte_size(Bytes) of
                ?PIECE -> Here ++ found(Memory, {At + ?PIECE - Overlap, End}, Pattern, Overlap);
                _ -> Here
            end;
        _ ->
            []
    end.
