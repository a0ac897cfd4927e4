%%% @doc Message-oriented tunnels over TCP, secured by Curve25519 in the manner of CurveCP.
%%%
%%% Both ends prove their long-term keys to each other; messages of 0 to 65,503 bytes arrive whole, in order, once. The
%%% calls are those of `gen_tcp' and `ssl' as far as they go.
%%%
%%% A process, the <em>controller</em>, owns each socket: at first the one that connected or accepted. When it dies the
%%% connection closes. In the active modes it gets
%%% <ul>
%%% <li>`{curve_tun, Socket, Message}' for each message,</li>
%%% <li>`{curve_tun_passive, Socket}' when a count that was set by `{active, N}' is used up,</li>
%%% <li>`{curve_tun_error, Socket, Reason}' when the connection ends otherwise than by the peer's closing it, and after
%%% it</li>
%%% <li>`{curve_tun_closed, Socket}', once, after the last message.</li>
%%% </ul>
%%% In the passive mode {@link recv/2} tells the reason, once, after the last message; from then on everything says
%%% `{error, closed}'. Either way {@link connection_information/1} has it afterwards. Reasons are:
%%% <ul>
%%% <li>`closed': the peer has closed, or its system did it for a process that ended, also by a kill;</li>
%%% <li>`econnreset': the peer has reset the transport, as its system does for a process that ends with something unread;
%%% `etimedout' and the like of `inet:posix()': the transport has failed;</li>
%%% <li>`bad_packet': what came was forged, replayed or broken; `counter_exhausted': one side has sent all the messages that
%%% it may;</li>
%%% <li>`send_timeout': the peer has not read for as long as the socket's option of this name says;</li>
%%% <li>`crashed' or `internal': a fault of this application, which its log tells more of.</li>
%%% </ul>
%%% Timeouts are milliseconds or `infinity'. Any process may send and receive; calls on a closed socket say
%%% `{error, closed}'.
%%% @end
-module(curve_tun).

-export([connect/3, connect/4, listen/2, accept/1, accept/2]).
-export([transport_accept/1, transport_accept/2, handshake/1, handshake/2, handshake/3]).
-export([send/2, send_many/2, recv/1, recv/2, close/1, shutdown/2]).
-export([controlling_process/2, setopts/2, getopts/2]).
-export([peername/1, sockname/1, peer_public_key/1, connection_information/1, getstat/1]).
-export([public_key/0, public_key_to_text/1, public_key_from_text/1]).

-export_type([socket/0, listen_socket/0, public_key/0, active/0, first_use/0, option/0, option_error/0]).

-type socket() :: {curve_tun_socket, Connection :: pid(), gen_tcp:socket(), curve_tun_nif:connection()}.
%% One end of a tunnel. What it consists of may change.
-type listen_socket() :: {curve_tun_listen_socket, pid()}.
%% A listening socket. What it consists of may change.
-type public_key() :: <<_:256>>.
%% A public key: 32 bytes.
-type active() :: boolean() | once | -32768..32767.
%% How messages reach the controller, as with `gen_tcp'. `false' is the default. With `true' nothing bounds the controller's
%% mailbox but memory: a peer that sends faster than the controller takes fills it. With `once' and a number no more than so
%% many wait there, `receive_high_water' bytes here, and beyond that the peer is made to wait.
-type first_use() ::
    refuse | once | remember
  | fun((Host :: binary(), inet:port_number(), public_key()) -> refuse | once | remember).
%% What becomes of a server of which no key is known, when this one is offered: it is not connected to, or this once, or
%% its key is remembered, once it has proven to hold the secret. A function may ask its user, for as long as `connect' may
%% take; one that crashes, hangs or says anything else refuses.
-type option() ::
    {key, public_key()}
  | {vault, module()}
  | {registry, module()}
  | {known_servers, file:filename_all()}
  | {first_use, first_use()}
  | {listener, unicode:chardata()}
  | {active, active()}
  | {handshake_timeout, timeout()}
  | {receive_high_water, pos_integer()}
  | {buffer, pos_integer()}
  | {handshakes_max, pos_integer()}
  | {handshakes_per_source, pos_integer() | infinity}
  | gen_tcp:option() | gen_tcp:connect_option() | gen_tcp:listen_option().
%% `key': the server's public key; without it `connect' takes those that the registry knows. `vault' and `registry':
%% providers other than the first ones of the application's environment. `known_servers': for `connect', the registry
%% file of the servers that this client knows, made if it is not there; a server is then taken by no other key than a
%% known one, and `first_use', `refuse' when not given, decides of the others. `listener': for `listen', a name that the
%% registry is told of each client, at most 255 bytes without control characters. `handshake_timeout': from TCP
%% connected, or accepted, to the end of the handshake; 10,000 when not given. `receive_high_water': bytes of messages
%% that wait for a receiver, above which nothing more is read from the peer; 262,144 when not given. What has been read by
%% then comes on top: 8 reads of `buffer' bytes at most. `handshakes_max':
%% handshakes that a listener has in flight at most, 1,024 when not given; `handshakes_per_source': how many of these
%% one source may have, an IPv4 address or the /64 of an IPv6 address, `infinity' when not given; at either limit, of
%% the source that has most the oldest gives way. `buffer': bytes of one read of the socket at most, 131,072 when not
%% given; a socket that has little to read has less. All others go to `gen_tcp'; not given, `nodelay' and `keepalive'
%% are true, `high_watermark' is 67,108,864, `send_timeout' 5,000, and a listener's `backlog' 4,096.
-type option_error() :: {missing_option, atom()} | {bad_option, term()}.
%% What is wrong with the options.
-type reason() :: atom() | option_error() | curve_tun_nif:refusal() | {no_provider, vault | registry}.

-define(TIMEOUT, 5000).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% @equiv connect(Host, Port, Options, infinity)
-spec connect(inet:socket_address() | inet:hostname(), inet:port_number(), [option()]) ->
          {ok, socket()} | {error, reason()}.
connect(Host, Port, Options) ->
    connect(Host, Port, Options, infinity).

%% @doc Connects to the holder of `{key, PublicKey}' at a host and does the handshake, both within the timeout.
%%
%% Without `key' the registry says which keys the server at this host and port has (`curve_tun_registry:server_keys/2'),
%% and they are tried in turn, each on a connection of its own. `{error, not_found}' when it knows none, `not_validated',
%% `registry_failed'; `{error, {missing_option, key}}' when the registry is of a kind that knows no servers.
%%
%% With `{known_servers, File}' a key that is not trusted is refused before anything is sent:
%% `{error, {key_changed, Known, Offered}}' when the server is known by another key, `{error, {key_denied, Offered}}',
%% and `{error, {unknown_peer, Offered}}' when it is not known and `first_use' refuses. While the file cannot be used no
%% server is trusted; the reason says why. In both cases the host has to be an address or a name, else it is `badarg'.
%%
%% `{error, wrong_server_key}' when the server does not hold the secret of the key, `{error, closed}' when it closed
%% without reading, `{error, timeout}', or an error of `gen_tcp:connect/4'. A client whose key the server does not accept
%% is connected at first, and sees the connection close.
-spec connect(inet:socket_address() | inet:hostname(), inet:port_number(), [option()], timeout()) ->
          {ok, socket()} | {error, reason()}.
connect(Host, Port, Options, Timeout) when ?IS_TIMEOUT(Timeout) ->
    Deadline = curve_tun_time:deadline(Timeout),
    maybe_with(curve_tun_options:parse(client, Options),
               fun(Own, Tcp) -> curve_tun_dial:connect(Host, Port, Own, Tcp, Deadline) end);
connect(_Host, _Port, _Options, _Timeout) ->
    {error, badarg}.

-spec maybe_with({ok, A, B}, fun((A, B) -> Result)) -> Result;
                ({error, reason()}, fun()) -> {error, reason()}.
maybe_with({ok, A, B}, Go) -> Go(A, B);
maybe_with({error, Reason}, _Go) -> {error, Reason}.

%% @doc Listens at a TCP port; 0 picks a free one, which {@link sockname/1} tells. The calling process owns the listener.
-spec listen(inet:port_number(), [option()]) -> {ok, listen_socket()} | {error, reason()}.
listen(Port, Options) ->
    maybe_with(curve_tun_options:parse(server, Options), fun(Own, Tcp) -> listen(Port, Own, Tcp) end).

-spec listen(inet:port_number(), curve_tun_options:options(), [term()]) ->
          {ok, listen_socket()} | {error, reason()}.
listen(Port, Own, Tcp) ->
    try gen_tcp:listen(Port, Tcp) of
        {ok, TcpSocket} -> curve_tun_listener:start(TcpSocket, Own);
        {error, Reason} -> {error, Reason}
    catch
        exit:_ -> {error, badarg};
        error:_ -> {error, badarg}
    end.

%% @equiv accept(ListenSocket, 5000)
-spec accept(listen_socket()) -> {ok, socket()} | {error, reason()}.
accept(ListenSocket) ->
    accept(ListenSocket, ?TIMEOUT).

%% @doc Gives the next client whose handshake is done.
%%
%% While somebody waits here, the handshakes of all clients that come run side by side, so a slow or silent one keeps
%% nobody waiting. A client that is refused, because the registry does not know it or for another reason, is nobody's
%% affair: accept goes on to the next one. Several who accept are served in the order of their calls. In a listener's active
%% mode the first messages go to who accepts, as all others do; until somebody does they wait. `{error, emfile}'
%% when the node is out of descriptors; the client waits in the backlog, and a later call tries again.
-spec accept(listen_socket(), timeout()) -> {ok, socket()} | {error, reason()}.
accept({curve_tun_listen_socket, Listener}, Timeout) when ?IS_TIMEOUT(Timeout) ->
    curve_tun_listener:accept(Listener, accept, Timeout);
accept(_ListenSocket, _Timeout) ->
    {error, badarg}.

%% @equiv transport_accept(ListenSocket, 5000)
-spec transport_accept(listen_socket()) -> {ok, socket()} | {error, reason()}.
transport_accept(ListenSocket) ->
    transport_accept(ListenSocket, ?TIMEOUT).

%% @doc Gives the next client that has connected by TCP. {@link handshake/2} does the rest, before the listener's
%% `handshake_timeout' is over.
-spec transport_accept(listen_socket(), timeout()) -> {ok, socket()} | {error, reason()}.
transport_accept({curve_tun_listen_socket, Listener}, Timeout) when ?IS_TIMEOUT(Timeout) ->
    curve_tun_listener:accept(Listener, transport, Timeout);
transport_accept(_ListenSocket, _Timeout) ->
    {error, badarg}.

%% @equiv handshake(Socket, infinity)
-spec handshake(socket()) -> {ok, socket()} | {error, reason()}.
handshake(Socket) ->
    handshake(Socket, infinity).

%% @doc Does the handshake with a client from {@link transport_accept/2}. On an error the socket is closed.
%%
%% `{error, unknown_peer}' when the registry does not accept the client's key from its address. With a `gen_tcp' socket
%% and options it is `handshake(TcpSocket, Options, infinity)'.
-spec handshake(socket(), timeout()) -> {ok, socket()} | {error, reason()};
               (gen_tcp:socket(), [option()]) -> {ok, socket()} | {error, reason()}.
handshake({curve_tun_socket, Connection, _, _}, Timeout) when ?IS_TIMEOUT(Timeout) ->
    curve_tun_request:handshake(Connection, curve_tun_time:deadline(Timeout));
handshake(TcpSocket, Options) when is_list(Options) ->
    handshake(TcpSocket, Options, infinity);
handshake(_Socket, _Timeout) ->
    {error, badarg}.

%% @doc Turns a connected `gen_tcp' socket of the calling process into a tunnel: its client's end if the options have the
%% server's `key', else its server's end.
%%
%% Nothing must have been read of what the peer sends for the tunnel, so the socket has to be passive. On an error the
%% socket is closed.
-spec handshake(gen_tcp:socket(), [option()], timeout()) -> {ok, socket()} | {error, reason()}.
handshake(TcpSocket, Options, Timeout) when ?IS_TIMEOUT(Timeout), not is_tuple(TcpSocket);
                                            ?IS_TIMEOUT(Timeout), element(1, TcpSocket) =/= curve_tun_socket ->
    Deadline = curve_tun_time:deadline(Timeout),
    maybe_with(curve_tun_options:parse(accepted, Options),
               fun(Own, Tcp) ->
                   curve_tun_dial:over(TcpSocket, Tcp, fun() -> own_end(Own, Deadline) end, Deadline)
               end);
handshake(_TcpSocket, _Options, _Timeout) ->
    {error, badarg}.

%% A server's minute key serves this connection alone and ends with it, so nothing has to rotate it.
-spec own_end(curve_tun_options:options(), curve_tun_time:deadline()) ->
          {ok, curve_tun_connection:prepared()} | {error, reason()}.
own_end(#{key := _} = Own, Deadline) -> curve_tun_ends:client(Own, Deadline);
own_end(Own, Deadline) -> curve_tun_ends:server(Own, Deadline).

%% @doc Sends a message of 0 to 65,503 bytes. Returns when the message is on its way; any process may call it, and
%% messages of one process arrive in the order of its calls.
%%
%% A message now and then is in the TCP socket's queue by then. Of those that are sent in quick succession up to 128 KiB may
%% wait in the connection, which writes them together: they follow at once, also when the connection is closed or its owner
%% ends. As with TCP, `ok' is no word of the peer's: what is on its way when a connection fails is lost.
%%
%% `{error, emsgsize}' for a larger one, `{error, badarg}' for what is not iodata: nothing is sent then, and the
%% connection stays usable. `{error, timeout}' when the peer has not read for the socket's `send_timeout' and
%% `high_watermark' bytes wait: the connection is closed then. `{error, closed}'.
-spec send(socket(), iodata()) -> ok | {error, emsgsize | badarg | timeout | closed | wrong_state | atom()}.
send({curve_tun_socket, _, _, _} = Socket, Message) ->
    curve_tun_sender:send_many(Socket, [Message]);
send(_Socket, _Message) ->
    {error, badarg}.

%% @doc Sends many messages in order, in one go: much faster than one by one. Either all are valid or none is sent; the
%% results are those of {@link send/2}.
-spec send_many(socket(), [iodata()]) -> ok | {error, emsgsize | badarg | timeout | closed | wrong_state | atom()}.
send_many({curve_tun_socket, _, _, _} = Socket, Messages) ->
    curve_tun_sender:send_many(Socket, Messages);
send_many(_Socket, _Messages) ->
    {error, badarg}.

%% @equiv recv(Socket, 5000)
-spec recv(socket()) -> binary() | {error, timeout | closed | einval | wrong_state | badarg | atom()}.
recv(Socket) ->
    recv(Socket, ?TIMEOUT).

%% @doc Gives the next message, the binary itself. Several receivers are served in the order of their calls; one whose
%% time is over leaves the queue and takes no message with it.
%%
%% After the connection has ended, the messages that had come are still given, then its reason as `{error, Reason}' to one
%% call, of several that wait to the first, and `{error, closed}' to all others. `{error, einval}' in an active mode.
-spec recv(socket(), timeout()) -> binary() | {error, timeout | closed | einval | wrong_state | badarg | atom()}.
recv({curve_tun_socket, Connection, _, _}, Timeout) when ?IS_TIMEOUT(Timeout) ->
    curve_tun_request:call(Connection, {recv, Timeout});
recv(_Socket, _Timeout) ->
    {error, badarg}.

%% @doc Closes a connection or a listener; always `ok', and at once. What was sent before is still handed over, for as
%% long as the peer takes it, at most 5 seconds without any progress.
-spec close(socket() | listen_socket()) -> ok.
close({curve_tun_socket, Connection, _, _}) ->
    _ = curve_tun_request:call(Connection, close),
    ok;
close({curve_tun_listen_socket, Listener}) ->
    _ = curve_tun_listener:call(Listener, close),
    ok.

%% @doc Ends sending (`write'), receiving (`read') or both. The protocol has no half-open connections: a peer of this
%% kind closes when it sees the end, and has all that was sent before it.
-spec shutdown(socket(), read | write | read_write) -> ok | {error, closed | wrong_state | badarg}.
shutdown({curve_tun_socket, Connection, _, _}, How) when How =:= read; How =:= write; How =:= read_write ->
    curve_tun_request:call(Connection, {shutdown, How});
shutdown(_Socket, _How) ->
    {error, badarg}.

%% @doc Makes another process the controller. Only the controller can: `{error, not_owner}' for others. Messages that it
%% has got in its mailbox go on to the new one, in order, also when the connection has ended by then.
-spec controlling_process(socket() | listen_socket(), pid()) -> ok | {error, not_owner | closed | badarg}.
controlling_process({curve_tun_socket, _, _, _} = Socket, Pid) when is_pid(Pid) ->
    curve_tun_controller:hand_over(Socket, Pid);
controlling_process({curve_tun_listen_socket, Listener}, Pid) when is_pid(Pid) ->
    curve_tun_listener:call(Listener, {controlling_process, Pid});
controlling_process(_Socket, _Pid) ->
    {error, badarg}.

%% @doc Sets options of an open socket: `{active, _}' and those of `inet:setopts/2' that do not touch the tunnel.
-spec setopts(socket(), [option()]) -> ok | {error, closed | einval | wrong_state | badarg | option_error() | inet:posix()}.
setopts({curve_tun_socket, Connection, _, _} = Socket, Options) ->
    maybe_with(curve_tun_options:check_settable(Options),
               fun(Active, Tcp) ->
                   case Tcp =:= [] orelse with_tcp(Socket, fun(TcpSocket) -> inet:setopts(TcpSocket, Tcp) end) of
                       {error, Reason} -> {error, Reason};
                       _ when Active =:= undefined -> ok;
                       _ -> curve_tun_request:call(Connection, {set_active, Active})
                   end
               end);
setopts(_Socket, _Options) ->
    {error, badarg}.

%% @doc Gets options: `active' and those of `inet:getopts/2'.
-spec getopts(socket(), [atom()]) -> {ok, [term()]} | {error, closed | wrong_state | badarg | inet:posix()}.
getopts({curve_tun_socket, Connection, _, _} = Socket, Names) when is_list(Names) ->
    Active = case lists:member(active, Names) of
                 true -> curve_tun_request:call(Connection, get_active);
                 false -> none
             end,
    case {Active, with_tcp(Socket, fun(TcpSocket) -> inet:getopts(TcpSocket, lists:delete(active, Names)) end)} of
        {{ok, Mode}, {ok, Values}} -> {ok, [{active, Mode} | Values]};
        {none, {ok, Values}} -> {ok, Values};
        {{error, Reason}, _} -> {error, Reason};
        {_, {error, Reason}} -> {error, Reason}
    end;
getopts(_Socket, _Names) ->
    {error, badarg}.

%% @doc The peer's address and port.
-spec peername(socket()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, closed | badarg | inet:posix()}.
peername(Socket) ->
    with_tcp(Socket, fun inet:peername/1).

%% @doc The local address and port of a connection or a listener.
-spec sockname(socket() | listen_socket()) ->
          {ok, {inet:ip_address(), inet:port_number()}} | {error, closed | badarg | inet:posix()}.
sockname(Socket) ->
    with_tcp(Socket, fun inet:sockname/1).

%% @doc Counters of the TCP socket, as `inet:getstat/1' gives them.
-spec getstat(socket() | listen_socket()) -> {ok, [{inet:stat_option(), integer()}]} | {error, closed | badarg | inet:posix()}.
getstat(Socket) ->
    with_tcp(Socket, fun inet:getstat/1).

-spec with_tcp(socket() | listen_socket(), fun((gen_tcp:socket()) -> Result)) -> Result | {error, closed | badarg}.
with_tcp({curve_tun_socket, Connection, _, _}, Do) ->
    case curve_tun_request:call(Connection, socket) of
        {ok, TcpSocket} -> Do(TcpSocket);
        {error, Reason} -> {error, Reason}
    end;
with_tcp({curve_tun_listen_socket, Listener}, Do) ->
    case curve_tun_listener:call(Listener, socket) of
        {ok, TcpSocket} -> Do(TcpSocket);
        {error, Reason} -> {error, Reason}
    end;
with_tcp(_Socket, _Do) ->
    {error, badarg}.

%% @doc The peer's long-term public key, which it has proven to hold the secret of.
-spec peer_public_key(socket()) -> {ok, public_key()} | {error, closed | wrong_state | badarg}.
peer_public_key(Socket) ->
    case connection_information(Socket) of
        {ok, Information} ->
            case {lists:keyfind(state, 1, Information), lists:keyfind(peer_public_key, 1, Information)} of
                {{_, closed}, _} -> {error, closed};
                {_, {_, Key}} -> {ok, Key};
                {_, false} -> {error, wrong_state}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc What is known of a connection: `protocol', `role' (`client' or `server'), `state', and once connected
%% `peer_public_key'.
%%
%% Of one that has ended otherwise than by {@link close/1} here, the `state' is `closed' and `reason' says why, for as long
%% as somebody has the socket; of any other closed one nothing, `{error, closed}'.
-spec connection_information(socket()) -> {ok, [{atom(), term()}]} | {error, closed | wrong_state | badarg}.
connection_information({curve_tun_socket, Connection, _, Nif}) ->
    try
        case curve_tun_request:call(Connection, information) of
            {ok, State, Role, _} -> {ok, information(Nif, State, Role)};
            {error, closed} -> closed_information(Nif);
            {error, Reason} -> {error, Reason}
        end
    catch
        %% The NIF that it was made with is gone.
        error:Failed when Failed =:= badarg; Failed =:= undef -> {error, closed}
    end;
connection_information(_Socket) ->
    {error, badarg}.

-spec closed_information(curve_tun_nif:connection()) -> {ok, [{atom(), term()}]} | {error, closed}.
closed_information(Nif) ->
    case curve_tun_nif:end_of(Nif) of
        {Role, Reason} -> {ok, information(Nif, closed, Role) ++ [{reason, Reason}]};
        none -> {error, closed}
    end.

-spec information(curve_tun_nif:connection(), atom(), client | server) -> [{atom(), term()}].
information(Nif, State, Role) ->
    Peer = case curve_tun_nif:peer_public_key(Nif) of
               {ok, Key} -> [{peer_public_key, Key}];
               {error, wrong_state} -> []
           end,
    [{protocol, {curve_tun, 1, 0}}, {role, Role}, {state, State} | Peer].

%% @doc The public key of the default vault, by which peers know this node.
-spec public_key() -> {ok, public_key()} | {error, reason()}.
public_key() ->
    case curve_tun_ends:vault(#{}, curve_tun_time:deadline(?TIMEOUT)) of
        {ok, _Module, Vault} -> {ok, curve_tun_nif:vault_public_key(Vault)};
        {error, Reason} -> {error, Reason}
    end.

%% @doc A public key in its printable form, 44 characters of base64: that of the C library and the tools, too.
-spec public_key_to_text(public_key()) -> binary().
public_key_to_text(Key) ->
    curve_tun_nif:public_key_to_text(Key).

%% @doc Reads the printable form of a public key; anything else is `{error, bad_key_text}'.
-spec public_key_from_text(binary() | string()) -> {ok, public_key()} | {error, bad_key_text}.
public_key_from_text(Text) ->
    try iolist_to_binary(Text) of
        Binary -> curve_tun_nif:public_key_from_text(Binary)
    catch
        error:badarg -> {error, bad_key_text}
    end.
