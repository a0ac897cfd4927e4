%%% @private
%%% Connects: the transport, the handshake, and finding out which key of a server to trust, which
%%% the NIF decides (curve_tun_nif:trust_new/3).
-module(curve_tun_connector).

-export([connect/5, over/4, over_given/4]).

-type host() :: inet:socket_address() | inet:hostname().
-type failure() :: {error, atom() | curve_tun:option_error() | curve_tun_nif:refusal() | {no_provider, vault | registry}
                         | {not_started, curve_tun}}.
-type connected() :: {ok, curve_tun:socket()} | failure().

-record(way, {
    host :: host(),
    port :: inet:port_number(),
    %% Host and port as registries know them. Not needed if the key is given and nothing else is
    %% asked.
    server :: curve_tun_known_servers:server() | undefined,
    own :: curve_tun_options:options(),
    tcp :: [term()],
    deadline :: curve_tun_time:deadline()
}).

-spec connect(host(), inet:port_number(), curve_tun_options:options(), [term()], curve_tun_time:deadline()) ->
          connected().
connect({local, _}, _Port, _Own, _Tcp, _Deadline) ->
    {error, eafnosupport};
connect(#{family := local}, _Port, _Own, _Tcp, _Deadline) ->
    {error, eafnosupport};
connect(Host, Port, #{key := Key} = Own, Tcp, Deadline) when not is_map_key(known_servers, Own) ->
    decide(Key, #way{host = Host, port = Port, own = Own, tcp = Tcp, deadline = Deadline});
connect(Host, Port, Own, Tcp, Deadline) ->
    case curve_tun_known_servers:server(Host, Port) of
        {ok, Server} ->
            decide(maps:get(key, Own, none),
                   #way{host = Host, port = Port, server = Server, own = Own, tcp = Tcp, deadline = Deadline});
        {error, Reason} ->
            {error, Reason}
    end.

%% Without a key, one is found by the server's name.
-spec decide(curve_tun:public_key() | none, #way{}) -> connected().
decide(Key, #way{own = Own} = Way) ->
    {Trust, Step} = curve_tun_nif:trust_new(Key, Key =:= none, is_map_key(known_servers, Own)),
    step(Step, Trust, none, Way).

%% Performs the steps, until it is decided whether the server's key is trusted.
-spec step(curve_tun_nif:trust_step(), curve_tun_nif:trust(), none | curve_tun:socket(), #way{}) -> connected().
step({use, Remembered}, _Trust, Socket, #way{server = Server}) ->
    case Remembered of
        {error, Reason} -> ok = curve_tun_log:not_remembered(Server, Reason);
        _ -> ok
    end,
    {ok, Socket};
step({refuse, Reason}, _Trust, none, _Way) ->
    {error, Reason};
step({refuse, Reason}, _Trust, Socket, _Way) ->
    ok = curve_tun:close(Socket),
    {error, Reason};
step({connect, Key}, Trust, none, Way) ->
    case connect_to(Key, Way) of
        {ok, Socket} -> step(curve_tun_nif:trust_answer(Trust, connected), Trust, Socket, Way);
        {error, Reason} -> step(curve_tun_nif:trust_answer(Trust, {failed, Reason}), Trust, none, Way)
    end;
step(Step, Trust, Socket, Way) ->
    step(curve_tun_nif:trust_answer(Trust, answer(Step, Way)), Trust, Socket, Way).

%% Returns the answer to a step that needs no connection.
-spec answer(curve_tun_nif:trust_step(), #way{}) -> curve_tun_nif:trust_answer().
answer(find, #way{server = {Host, Port}, own = Own, deadline = Deadline}) ->
    case curve_tun_endpoint:server_keys(Own, Host, Port, Deadline) of
        {ok, Keys} -> {found, Keys};
        %% No registry here knows servers: the program had to give the key.
        {error, enotsup} -> {failed, {missing_option, key}};
        {error, Reason} -> {failed, Reason}
    end;
answer({look_up, Key}, #way{own = Own, server = Server, deadline = Deadline}) ->
    case curve_tun_known_servers:look_up(Own, Server, Key, Deadline) of
        {ok, Known} -> Known;
        {error, Reason} -> {failed, Reason}
    end;
answer({first_use, Key}, #way{own = Own, server = Server, deadline = Deadline}) ->
    {first_use, curve_tun_known_servers:first_use(Own, Server, Key, Deadline)};
answer({remember, Key}, #way{own = Own, server = Server, deadline = Deadline}) ->
    case curve_tun_known_servers:remember(Own, Server, Key, Deadline) of
        ok -> remembered;
        {error, Reason} -> {failed, Reason}
    end.

-spec connect_to(curve_tun:public_key(), #way{}) -> connected().
connect_to(Key, #way{host = Host, port = Port, own = Own, tcp = Tcp, deadline = Deadline}) ->
    case curve_tun_endpoint:client(Own#{key => Key}, Deadline) of
        {ok, End} ->
            try gen_tcp:connect(Host, Port, Tcp, curve_tun_time:left(Deadline)) of
                {ok, TcpSocket} -> over(TcpSocket, [], fun() -> {ok, End} end, Deadline);
                {error, Reason} -> curve_tun_options:refused(Reason, Tcp)
            catch
                _:_ -> curve_tun_options:refused(badarg, Tcp)
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% Starts a connection over a gen_tcp socket of the caller and performs the handshake.
-spec over(gen_tcp:socket(), [term()], curve_tun_connection:prepare(), curve_tun_time:deadline()) -> connected().
over(TcpSocket, Tcp, Prepare, Deadline) ->
    case curve_tun_connection_sup:start_child(self()) of
        {ok, Connection} ->
            curve_tun_request:handshake(Connection, TcpSocket, Tcp, Prepare, Deadline);
        {error, Reason} ->
            gen_tcp:close(TcpSocket),
            {error, Reason}
    end.

%% The same over a socket given by a program, if that is a connected TCP socket of the caller.
%% Anything else is left as it is.
-spec over_given(term(), [term()], curve_tun_connection:prepare(), curve_tun_time:deadline()) -> connected().
over_given(TcpSocket, Tcp, Prepare, Deadline) ->
    case check(TcpSocket) of
        ok ->
            case over(TcpSocket, Tcp, Prepare, Deadline) of
                {error, Reason} when is_atom(Reason) -> curve_tun_options:refused(Reason, Tcp);
                Result -> Result
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec check(term()) -> ok | {error, atom() | curve_tun:option_error()}.
check(Port) when is_port(Port), node(Port) =:= node() ->
    case {erlang:port_info(Port, name), erlang:port_info(Port, connected)} of
        {{name, "tcp_inet"}, {connected, Owner}} when Owner =:= self() -> check_peer(inet:peername(Port));
        {{name, "tcp_inet"}, {connected, _}} -> {error, not_owner};
        {undefined, _} -> {error, closed};
        {_, undefined} -> {error, closed};
        _ -> {error, badarg}
    end;
%% Not a port: the other backend of gen_tcp.
check({'$inet', Module, _}) when is_atom(Module) ->
    {error, {bad_option, {inet_backend, socket}}};
check(_) ->
    {error, badarg}.

-spec check_peer(term()) -> ok | {error, atom()}.
check_peer({ok, {_Address, Port}}) when is_integer(Port) -> ok;
check_peer({ok, _}) -> {error, eafnosupport};
check_peer({error, Reason}) -> {error, Reason}.
