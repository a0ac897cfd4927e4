%%% @private
%%% Connecting: which keys a server may have, whether they are trusted, the transport, the handshake.
-module(curve_tun_dial).

-export([connect/5, over/4, over_given/4]).

-type host() :: inet:socket_address() | inet:hostname().
-type failure() :: {error, atom() | curve_tun:option_error() | curve_tun_nif:refusal() | {no_provider, vault | registry}
                         | {not_started, curve_tun}}.
-type connected() :: {ok, curve_tun:socket()} | failure().

-record(way, {
    host :: host(),
    port :: inet:port_number(),
    %% The same as registries have it; unless the key is given and nothing else is asked, it needs no such name.
    server :: curve_tun_known:server() | undefined,
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
    connect_to(Key, #way{host = Host, port = Port, own = Own, tcp = Tcp, deadline = Deadline});
connect(Host, Port, Own, Tcp, Deadline) ->
    case curve_tun_known:server(Host, Port) of
        {ok, Server} ->
            Way = #way{host = Host, port = Port, server = Server, own = Own, tcp = Tcp, deadline = Deadline},
            case keys(Way) of
                {ok, Keys} -> try_keys(Keys, Way, none);
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% The key that is given, or those that the registry knows.
-spec keys(#way{}) -> {ok, [curve_tun:public_key(), ...]} | failure().
keys(#way{own = #{key := Key}}) ->
    {ok, [Key]};
keys(#way{server = {Host, Port}, own = Own, deadline = Deadline}) ->
    case curve_tun_ends:server_keys(Own, Host, Port, Deadline) of
        {ok, Keys} -> {ok, Keys};
        %% Nobody knows servers: the program was to say the key.
        {error, enotsup} -> {error, {missing_option, key}};
        {error, Reason} -> {error, Reason}
    end.

%% Tries the keys in turn, each on a connection of its own, until the server holds the secret of one: so a server's key can
%% be replaced. A key that is not trusted is passed over, and is told of if no other does.
-spec try_keys([curve_tun:public_key()], #way{}, none | curve_tun_nif:refusal()) -> connected().
try_keys([], _Way, Failed) ->
    {error, Failed};
try_keys([Key | Keys], #way{own = Own, server = Server, deadline = Deadline} = Way, Failed) ->
    case curve_tun_known:check(Own, Server, Key, Deadline) of
        {ok, Remember} ->
            case connect_to(Key, Way) of
                {ok, Socket} -> trusted(Remember, Socket, Key, Way);
                {error, wrong_server_key} -> try_keys(Keys, Way, worse(Failed, wrong_server_key));
                {error, Reason} -> {error, Reason}
            end;
        {error, Refused} when element(1, Refused) =:= key_changed; element(1, Refused) =:= key_denied ->
            try_keys(Keys, Way, worse(Failed, Refused));
        {error, Reason} ->
            {error, Reason}
    end.

%% What is told of several failures: the first key that is not trusted, if there is one.
-spec worse(Failed, Failed) -> Failed when Failed :: none | curve_tun_nif:refusal().
worse(Failed, _Next) when is_tuple(Failed) -> Failed;
worse(_Failed, Next) -> Next.

-spec trusted(Remember :: boolean(), curve_tun:socket(), curve_tun:public_key(), #way{}) -> connected().
trusted(false, Socket, _Key, _Way) ->
    {ok, Socket};
trusted(true, Socket, Key, #way{own = Own, server = Server, deadline = Deadline}) ->
    case curve_tun_known:remember(Own, Server, Key, Deadline) of
        ok ->
            {ok, Socket};
        %% Another program has remembered another key meanwhile.
        {error, Refused} when is_tuple(Refused) ->
            ok = curve_tun:close(Socket),
            {error, Refused};
        %% The server has proven the key: a file that cannot be written costs the memory and not the tunnel.
        {error, Reason} ->
            ok = curve_tun_report:not_remembered(Server, Reason),
            {ok, Socket}
    end.

-spec connect_to(curve_tun:public_key(), #way{}) -> connected().
connect_to(Key, #way{host = Host, port = Port, own = Own, tcp = Tcp, deadline = Deadline}) ->
    case curve_tun_ends:client(Own#{key => Key}, Deadline) of
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

%% Starts a connection over a gen_tcp socket of the caller's and does the handshake.
-spec over(gen_tcp:socket(), [term()], curve_tun_connection:prepare(), curve_tun_time:deadline()) -> connected().
over(TcpSocket, Tcp, Prepare, Deadline) ->
    case curve_tun_connection_sup:start_child(self()) of
        {ok, Connection} ->
            curve_tun_request:handshake(Connection, TcpSocket, Tcp, Prepare, Deadline);
        {error, Reason} ->
            gen_tcp:close(TcpSocket),
            {error, Reason}
    end.

%% The same over what a program has given, if that is a connected TCP socket of its own; anything else is left as it is.
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
