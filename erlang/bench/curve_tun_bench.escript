#!/usr/bin/env escript
%% This application beside OTP's ssl (TLS 1.3, both sides verify) and plain gen_tcp, over 127.0.0.1 in one node and one
%% run. Every system frames messages with two bytes and has no-delay and {active, 100}; `untuned' leaves the sockets'
%% buffers at OTP's defaults, the other rows have {buffer, 262144}.
%%
%%   escript bench/curve_tun_bench.escript [handshakes|stream|echo|memory ...]
%%
%% from erlang/, after `rebar3 compile'. All but the memory are the medians of ROUNDS new listeners, for how the BEAM
%% spreads its processes differs from one to the next. Environment: SECS per measurement (1.0), PINGS (2000), ROUNDS (5),
%% CONNECTIONS (300), IDLE (500), SYSTEMS ("gen_tcp ssl curve_tun").
-mode(compile).

main(Args) ->
    Here = filename:dirname(filename:absname(escript:script_name())),
    true = code:add_patha(filename:join(Here, "../_build/default/lib/curve_tun/ebin")),
    logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(ssl),
    {ok, _} = application:ensure_all_started(curve_tun),
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    put(tls, certificates()),
    Parts = case Args of [] -> ["handshakes", "stream", "echo", "memory"]; _ -> Args end,
    io:format("~-24s ~-34s ~10s ~s~n", ["system", "what", "bytes", "result"]),
    [part(Part) || Part <- Parts],
    ok.

env(Name, Default) ->
    case os:getenv(Name) of
        false -> Default;
        Text -> try list_to_integer(Text) catch error:badarg -> list_to_float(Text) end
    end.

row(System, What, Size, Format, Values) ->
    io:format("~-24s ~-34s ~10w ~s~n", [name(System), What, Size, io_lib:format(Format, Values)]).

name({System, tuned}) -> atom_to_list(System);
name({System, untuned}) -> atom_to_list(System) ++ " untuned".

systems() ->
    Chosen = string:lexemes(case os:getenv("SYSTEMS") of false -> "gen_tcp ssl curve_tun"; Text -> Text end, " "),
    [System || {Name, _} = System <- [{gen_tcp, untuned}, {gen_tcp, tuned}, {ssl, untuned}, {ssl, tuned}, {curve_tun, tuned}],
               lists:member(atom_to_list(Name), Chosen)].

part("handshakes") ->
    [handshakes(System, Parallel) || {_, tuned} = System <- systems(), Parallel <- [1, 8]];
part("stream") ->
    [stream(System, Size, single) || Size <- [64, 1024, 16384, 60000], System <- systems()],
    [stream({curve_tun, tuned}, Size, many) || Size <- [64, 1024, 16384, 60000]];
part("echo") ->
    [echo(System, Size) || Size <- [64, 1024, 16384, 60000], System <- systems()];
part("memory") ->
    [memory(System) || {_, tuned} = System <- systems()].

%%% The three systems behind one face

options({_, Tuning}) ->
    [binary, {active, false}, {nodelay, true}] ++ [{buffer, 262144} || Tuning =:= tuned].

listen({curve_tun, _}) ->
    {ok, L} = curve_tun:listen(0, [{ip, {127,0,0,1}}]),
    {ok, {_, Port}} = curve_tun:sockname(L),
    {L, Port};
listen({ssl, _} = System) ->
    #{server := Tls} = get(tls),
    {ok, L} = ssl:listen(0, [{ip, {127,0,0,1}}, {packet, 2}, {backlog, 128} | options(System)] ++ Tls),
    {ok, {_, Port}} = ssl:sockname(L),
    {L, Port};
listen({gen_tcp, _} = System) ->
    {ok, L} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, {packet, 2}, {backlog, 128} | options(System)]),
    {ok, Port} = inet:port(L),
    {L, Port}.

accept({curve_tun, _}, L) -> {ok, S} = curve_tun:accept(L, 10000), S;
accept({ssl, _}, L) -> {ok, T} = ssl:transport_accept(L, 10000), {ok, S} = ssl:handshake(T, 10000), S;
accept({gen_tcp, _}, L) -> {ok, S} = gen_tcp:accept(L, 10000), S.

connect({curve_tun, _}, Port, _) ->
    {ok, Key} = curve_tun:public_key(),
    {ok, S} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}], 10000),
    S;
connect({ssl, _} = System, Port, #{client := Tls}) ->
    {ok, S} = ssl:connect({127,0,0,1}, Port, [{packet, 2} | options(System)] ++ Tls, 10000),
    S;
connect({gen_tcp, _} = System, Port, _) ->
    {ok, S} = gen_tcp:connect({127,0,0,1}, Port, [{packet, 2} | options(System)], 10000),
    S.

send({Module, _}, S, Message) -> ok = Module:send(S, Message).
recv({curve_tun, _}, S) -> <<_/binary>> = curve_tun:recv(S, 30000);
recv({Module, _}, S) -> {ok, Message} = Module:recv(S, 0, 30000), Message.
close({Module, _}, S) -> Module:close(S).
active({gen_tcp, _}, S, N) -> ok = inet:setopts(S, [{active, N}]);
active({Module, _}, S, N) -> ok = Module:setopts(S, [{active, N}]).

%% Runs `Serve' with a server's end in a process of its own, `Drive' with the client's end here.
with_pair(System, Serve, Drive) ->
    {L, Port} = listen(System),
    Here = self(),
    {Pid, Ref} = spawn_monitor(fun() -> S = accept(System, L), Here ! {self(), Serve(S)} end),
    C = connect(System, Port, get(tls)),
    Wait = fun() -> receive {Pid, Value} -> Value; {'DOWN', Ref, _, _, Why} -> exit(Why) after 60000 -> exit(stuck) end end,
    Result = Drive(C, Wait),
    close(System, C),
    exit(Pid, kill),
    demonitor(Ref, [flush]),
    close(System, L),
    Result.

%%% Measurements

stream(System, Size, How) ->
    Message = crypto:strong_rand_bytes(Size),
    [Rate, Cpu] = medians(fun() ->
        with_pair(System, fun(S) -> active(System, S, 100), count(System, S, 0) end,
                  fun(C, Wait) -> pump(System, C, Message, How, Wait) end)
    end),
    row(System, case How of single -> "one way, single sends"; many -> "one way, send_many" end, Size,
        "~w msg/s (~.1f us cpu each)", [round(Rate), Cpu]).

pump(System, C, Message, How, Wait) ->
    Batch = max(1, 262144 div (byte_size(Message) + 34)),
    Say = case How of
              single -> fun() -> [send(System, C, Message) || _ <- lists:seq(1, 16)], 16 end;
              many -> Messages = lists:duplicate(Batch, Message),
                      fun() -> ok = curve_tun:send_many(C, Messages), Batch end
          end,
    Before = cpu_ms(),
    Start = erlang:monotonic_time(),
    Until = Start + round(env("SECS", 1.0) * 1.0e9),
    Sent = until(Say, Until, 0),
    send(System, C, <<"end">>),
    Sent = Wait(),
    [Sent / ((erlang:monotonic_time() - Start) / 1.0e9), 1000 * (cpu_ms() - Before) / Sent].

%% Milliseconds of the processors that this node has used, in user mode and in the kernel.
cpu_ms() ->
    {ok, Stat} = file:read_file("/proc/self/stat"),
    [_, After] = binary:split(Stat, <<") ">>),
    Fields = string:lexemes(After, " "),
    10 * lists:sum([binary_to_integer(lists:nth(N, Fields)) || N <- [12, 13]]).

%% The median of each figure.
medians(Measure) ->
    Rounds = [begin garbage_collect(), Measure() end || _ <- lists:seq(1, env("ROUNDS", 5))],
    [lists:nth((length(Rounds) + 1) div 2, lists:sort([lists:nth(N, Figures) || Figures <- Rounds]))
     || N <- lists:seq(1, length(hd(Rounds)))].

until(Say, Until, Sent) ->
    Now = Sent + Say(),
    case erlang:monotonic_time() < Until of
        true -> until(Say, Until, Now);
        false -> Now
    end.

count(System, S, N) ->
    receive
        {_, _, <<"end">>} -> N;
        {_, _, _} -> count(System, S, N + 1);
        {_, _} -> active(System, S, 100), count(System, S, N)
    end.

echo(System, Size) ->
    Message = crypto:strong_rand_bytes(Size),
    Count = env("PINGS", 2000),
    Ping = fun(C) ->
               T = erlang:monotonic_time(),
               send(System, C, Message),
               Message = recv(System, C),
               (erlang:monotonic_time() - T) / 1000
           end,
    Figures = medians(fun() ->
        with_pair(System, fun(S) -> reflect(System, S) end,
                  fun(C, _) ->
                      [Ping(C) || _ <- lists:seq(1, Count div 5)],
                      Times = lists:sort([Ping(C) || _ <- lists:seq(1, Count)]),
                      [lists:nth(Count div 2, Times), lists:nth(Count * 99 div 100, Times)]
                  end)
    end),
    row(System, "echo, p50 and p99", Size, "~.1f ~.1f us", Figures).

%% Until the other end closes.
reflect({curve_tun, _} = System, S) ->
    case curve_tun:recv(S, 30000) of
        {error, _} -> ok;
        Message -> send(System, S, Message), reflect(System, S)
    end;
reflect({Module, _} = System, S) ->
    case Module:recv(S, 0, 30000) of
        {error, _} -> ok;
        {ok, Message} -> send(System, S, Message), reflect(System, S)
    end.

handshakes(System, Parallel) ->
    [Rate] = medians(fun() -> [handshakes_once(System, Parallel)] end),
    row(System, "connections, " ++ integer_to_list(Parallel) ++ " at once", 1, "~w /s", [round(Rate)]).

handshakes_once(System, Parallel) ->
    {L, Port} = listen(System),
    Tls = get(tls),
    Count = env("CONNECTIONS", 300),
    Servers = [spawn(fun Loop() -> put(tls, Tls), S = accept(System, L), send(System, S, <<1>>), Loop() end)
               || _ <- lists:seq(1, Parallel)],
    Client = fun(N) ->
                 [begin C = connect(System, Port, Tls), <<1>> = recv(System, C), close(System, C) end
                  || _ <- lists:seq(1, N)]
             end,
    Client(50),
    Start = erlang:monotonic_time(),
    Clients = [spawn_monitor(fun() -> Client(Count div Parallel) end) || _ <- lists:seq(1, Parallel)],
    [receive {'DOWN', Ref, _, Pid, normal} -> ok; {'DOWN', Ref, _, Pid, Why} -> exit(Why) end || {Pid, Ref} <- Clients],
    Seconds = (erlang:monotonic_time() - Start) / 1.0e9,
    [exit(Pid, kill) || Pid <- Servers],
    close(System, L),
    (Count div Parallel) * Parallel / Seconds.

%% Both ends of each connection, in this node: the BEAM's memory, and that of the whole process, which has the NIF's.
memory(System) ->
    {L, Port} = listen(System),
    Count = env("IDLE", 500),
    Tls = get(tls),
    Here = self(),
    Server = spawn(fun() -> put(tls, Tls),
                            Ss = [begin S = accept(System, L), send(System, S, <<1>>), S end || _ <- lists:seq(1, Count)],
                            Here ! ready, receive never -> Ss end end),
    First = connect(System, Port, Tls),
    <<1>> = recv(System, First),
    Before = used(),
    Sockets = [begin C = connect(System, Port, Tls), <<1>> = recv(System, C), C end || _ <- lists:seq(2, Count)],
    receive ready -> ok end,
    timer:sleep(3000),
    After = used(),
    [Beam, Os] = [(A - B) / (2 * (Count - 1)) || {A, B} <- lists:zip(After, Before)],
    row(System, "memory of an idle end: BEAM, RSS", 0, "~w ~w", [round(Beam), round(Os)]),
    [close(System, C) || C <- [First | Sockets]],
    exit(Server, kill),
    close(System, L),
    timer:sleep(1000).

used() ->
    [garbage_collect(Pid) || Pid <- [self()]],
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Resident | _] = string:lexemes(Statm, " "),
    [erlang:memory(total), 4096 * binary_to_integer(Resident)].

%%% Certificates of a throw-away authority, with keys on P-256

certificates() ->
    Key = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Chain = #{root => Key, intermediates => [], peer => Key},
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    Common = [{versions, ['tlsv1.3']}, {supported_groups, [x25519]}, {session_tickets, disabled}, {verify, verify_peer}],
    #{server => Server ++ Common ++ [{fail_if_no_peer_cert, true}],
      client => Client ++ Common ++ [{server_name_indication, disable}]}.
