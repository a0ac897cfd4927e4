#!/usr/bin/env escript
%% The Erlang application and Erlang's own transports, over loopback, two processes in one node.
%%
%%   erlang.escript gen_tcp SECONDS ECHOES SETUPS
%%   erlang.escript ssl CERTIFICATES SECONDS ECHOES SETUPS    TLS 1.3, X25519, both sides show a certificate
%%   erlang.escript curve_tun EBIN SECONDS ECHOES SETUPS      the folder of its modules
%%   erlang.escript idle COUNT gen_tcp | ssl CERTIFICATES | curve_tun EBIN    memory of idle connections
%%
%% OTP's two have {packet, 2}. The receiver of a stream is tuned as its users tune it: {active, 100} and a buffer of
%% 256 KiB, without which ssl is several times slower. Prints the rows that reference/bench.h describes.
-mode(compile).

-define(SIZES, [64, 1024, 16384, 65503]).
-define(SOON, 30_000).
-define(BUFFER, 262_144).

main(["idle", Count | Arguments]) ->
    {Transport, ServerOptions, ClientOptions, []} = system(Arguments),
    idle(Transport, ServerOptions, ClientOptions, list_to_integer(Count));
main([_, _, _, _ | _] = Arguments) ->
    {Transport, ServerOptions, ClientOptions, Extent} = system(Arguments),
    measure(Transport, ServerOptions, ClientOptions, extent(Extent));
main(_) ->
    io:put_chars(standard_error,
                 "erlang.escript [idle COUNT] gen_tcp | ssl CERTIFICATES | curve_tun EBIN, or SECONDS ECHOES SETUPS after it\n"),
    halt(1).

%% Starts what the arguments name; gives {{Module, Inet}, ServerOptions, ClientOptions, FurtherArguments}: the transport
%% and the module that has its setopts and sockname.
system(["gen_tcp" | More]) ->
    {{gen_tcp, inet}, framed([]), framed([]), More};
system(["curve_tun", Ebin | More]) ->
    true = code:add_patha(Ebin),
    logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(curve_tun),
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:register({127, 0, 0, 1}, Key),
    {{curve_tun, curve_tun}, [], [{key, Key}], More};
system(["ssl", Folder | More]) ->
    {ok, _} = application:ensure_all_started(ssl),
    logger:set_primary_config(level, error),
    Common = [{versions, ['tlsv1.3']}, {verify, verify_peer}, {supported_groups, [x25519]},
              {ciphers, [Suite || #{cipher := aes_256_gcm} = Suite <- ssl:cipher_suites(all, 'tlsv1.3')]},
              {session_tickets, disabled}, {cacertfile, filename:join(Folder, "authority.pem")}],
    Own = fun(Name) ->
              [{certfile, filename:join(Folder, Name ++ ".pem")}, {keyfile, filename:join(Folder, Name ++ ".key")}
               | Common]
          end,
    {{ssl, ssl}, framed([{fail_if_no_peer_cert, true} | Own("server")]),
     framed([{server_name_indication, "localhost"} | Own("client")]), More}.

framed(Options) ->
    [binary, {packet, 2}, {active, false}, {nodelay, true} | Options].

extent([Seconds, Echoes, Setups]) ->
    {round(number(Seconds) * 1000), list_to_integer(Echoes), list_to_integer(Setups)}.

number(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> list_to_integer(Text);
        {Number, ""} -> Number
    end.

row(Module, Metric, Size, Value, Unit) ->
    io:format("~s,~s,~b,~.2f,~s~n", [name(Module), Metric, Size, float(Value), Unit]).

name(curve_tun) -> "curve_tun_erlang";
name(Module) -> Module.

measure({Module, _} = Transport, ServerOptions, ClientOptions, {Milliseconds, Echoes, Setups}) ->
    {Listener, Connect} = listen(Transport, ServerOptions, ClientOptions),
    [stream(Transport, Listener, Connect, Size, Milliseconds) || Size <- ?SIZES],
    [echoes(Transport, Listener, Connect, Size, Echoes) || Size <- ?SIZES],
    setups(Transport, Listener, Connect, Setups),
    Module:close(Listener).

%% A listener, and what connects to it.
listen({Module, Inet}, ServerOptions, ClientOptions) ->
    {ok, Listener} = Module:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 64} | ServerOptions]),
    {ok, {_, Port}} = Inet:sockname(Listener),
    Connect = fun() ->
                  {ok, Socket} = Module:connect({127, 0, 0, 1}, Port, ClientOptions, ?SOON),
                  Socket
              end,
    {Listener, Connect}.

%% What the BEAM has given out grows with each connection, both ends of which are in this node. (What the system has given
%% the BEAM tells little: it keeps what it needed while connections were made, and fills that first.)
idle({Module, _} = Transport, ServerOptions, ClientOptions, Count) ->
    {Listener, Connect} = listen(Transport, ServerOptions, ClientOptions),
    Here = self(),
    Server = spawn_link(fun() -> serve_idle(Module, Listener, Here, []) end),
    %% What all connections share is there after the first ones.
    {First, Before} = {hold(Module, Connect, Server, 50), memory()},
    {Second, After} = {hold(Module, Connect, Server, Count), memory()},
    row(Module, idle_connection, 0, (After - Before) / (2 * Count), "bytes"),
    [Module:close(Socket) || Socket <- First ++ Second],
    unlink(Server),
    exit(Server, kill),
    Module:close(Listener).

%% Holds all connections that it is told to accept; one message has gone through each.
serve_idle(Module, Listener, Client, Held) ->
    receive
        {accept, Count} ->
            Sockets = [serve_one(Module, Listener) || _ <- lists:seq(1, Count)],
            Client ! {self(), accepted},
            serve_idle(Module, Listener, Client, [Sockets | Held])
    end.

serve_one(Module, Listener) ->
    Socket = accept(Module, Listener),
    ok = Module:send(Socket, <<1>>),
    Socket.

hold(Module, Connect, Server, Count) ->
    Server ! {accept, Count},
    Sockets = [begin
                   Socket = Connect(),
                   {ok, <<1>>} = recv(Module, Socket),
                   Socket
               end || _ <- lists:seq(1, Count)],
    receive {Server, accepted} -> ok after ?SOON -> error(timeout) end,
    Sockets.

%% Bytes, after what is idle has had the time to notice.
memory() ->
    timer:sleep(3000),
    garbage_collect(),
    erlang:memory(total).

accept(ssl, Listener) ->
    {ok, Transport} = ssl:transport_accept(Listener, ?SOON),
    {ok, Socket} = ssl:handshake(Transport, ?SOON),
    Socket;
accept(Module, Listener) ->
    {ok, Socket} = Module:accept(Listener, ?SOON),
    Socket.

recv(curve_tun, Socket) ->
    case curve_tun:recv(Socket, ?SOON) of
        {error, Reason} -> {error, Reason};
        Message -> {ok, Message}
    end;
recv(Module, Socket) ->
    Module:recv(Socket, 0, ?SOON).

%% The application has such a buffer always.
tune(curve_tun, _) -> ok;
tune(Inet, Socket) -> ok = Inet:setopts(Socket, [{buffer, ?BUFFER}]).

%% A process that accepts one connection, runs Serve with it, and gives what that gives.
serve({Module, _}, Listener, Serve) ->
    spawn_monitor(fun() ->
                      Socket = accept(Module, Listener),
                      Result = Serve(Socket),
                      Module:close(Socket),
                      exit({served, Result})
                  end).

await({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {served, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    after ?SOON -> error(timeout)
    end.

%% One way. A message of one byte ends the stream.
stream({Module, Inet} = Transport, Listener, Connect, Size, Milliseconds) ->
    Server = serve(Transport, Listener, fun(Socket) ->
                                            tune(Inet, Socket),
                                            count(Inet, Socket, 0)
                                        end),
    Socket = Connect(),
    Message = binary:copy(<<7>>, Size),
    Began = erlang:monotonic_time(),
    Until = Began + erlang:convert_time_unit(Milliseconds, millisecond, native),
    Sent = send_until(Module, Socket, Message, Until, 0),
    ok = Module:send(Socket, <<0>>),
    Sent = await(Server),
    Took = erlang:monotonic_time() - Began,
    Module:close(Socket),
    row(Module, single, Size, Sent * erlang:convert_time_unit(1, second, native) / Took, "1/s").

send_until(Module, Socket, Message, Until, Sent) ->
    [ok = Module:send(Socket, Message) || _ <- lists:seq(1, 16)],
    case erlang:monotonic_time() < Until of
        true -> send_until(Module, Socket, Message, Until, Sent + 16);
        false -> Sent + 16
    end.

count(Inet, Socket, Count) ->
    ok = Inet:setopts(Socket, [{active, 100}]),
    count_active(Inet, Socket, Count).

count_active(Inet, Socket, Count) ->
    receive
        {Closed, Socket} when Closed =:= tcp_closed; Closed =:= ssl_closed; Closed =:= curve_tun_closed -> Count;
        {_Passive, Socket} -> count(Inet, Socket, Count);
        {_, Socket, <<_>>} -> Count;
        {_, Socket, _} -> count_active(Inet, Socket, Count + 1)
    after ?SOON -> error(timeout)
    end.

echoes({Module, _} = Transport, Listener, Connect, Size, Count) ->
    Server = serve(Transport, Listener, fun(Socket) -> send_back(Module, Socket) end),
    Socket = Connect(),
    Message = binary:copy(<<7>>, Size),
    [echo(Module, Socket, Message) || _ <- lists:seq(1, Count div 10)],
    Times = lists:sort([echo(Module, Socket, Message) || _ <- lists:seq(1, Count)]),
    Module:close(Socket),
    await(Server),
    row(Module, echo_p50, Size, lists:nth(Count div 2 + 1, Times) / 1000, "us"),
    row(Module, echo_p99, Size, lists:nth(Count * 99 div 100 + 1, Times) / 1000, "us").

%% Nanoseconds of one message there and back.
echo(Module, Socket, Message) ->
    Began = erlang:monotonic_time(nanosecond),
    ok = Module:send(Socket, Message),
    {ok, Message} = recv(Module, Socket),
    erlang:monotonic_time(nanosecond) - Began.

send_back(Module, Socket) ->
    case recv(Module, Socket) of
        {ok, Message} ->
            ok = Module:send(Socket, Message),
            send_back(Module, Socket);
        {error, closed} ->
            ok
    end.

setups({Module, _} = Transport, Listener, Connect, Count) ->
    Began = erlang:monotonic_time(),
    [begin
         Server = serve(Transport, Listener, fun(Socket) -> send_back(Module, Socket) end),
         Socket = Connect(),
         echo(Module, Socket, <<7>>),
         Module:close(Socket),
         await(Server)
     end || _ <- lists:seq(1, Count)],
    Took = erlang:monotonic_time() - Began,
    row(Module, setup, 0, Count * erlang:convert_time_unit(1, second, native) / Took, "1/s").
