%%% @doc Message-oriented tunnels over TCP, secured by Curve25519 in the manner of CurveCP.
%%%
%%% Both ends prove their long-term keys to each other. Messages of 0 to 65,503 bytes arrive whole,
%%% in order and exactly once. The functions follow `gen_tcp' and `ssl' where the protocol allows.
%%% With the option `{packet, raw}' or `{packet, 4}' a connection carries a stream instead, of bytes
%%% or of larger messages: {@link curve_tun_stream} says what differs.
%%%
%%% Each socket is owned by a process, its <em>controller</em>: initially the process that connected
%%% or accepted. The connection closes when its controller dies. In the active modes the controller
%%% receives
%%% <ul>
%%% <li>`{curve_tun, Socket, Message}' for each message,</li>
%%% <li>`{curve_tun_passive, Socket}' when a count set with `{active, N}' is used up,</li>
%%% <li>`{curve_tun_error, Socket, Reason}' when the connection ends for any reason other than the
%%% peer closing it, followed by</li>
%%% <li>`{curve_tun_closed, Socket}', once, after the last message.</li>
%%% </ul> In passive mode {@link recv/2} returns the reason, once, after the last message; from then
%%% on every call returns `{error, closed}'. In both modes {@link connection_information/1} still
%%% reports the reason afterwards. Reasons are:
%%% <ul>
%%% <li>`closed': the peer closed the connection, or its system did so for a process that ended or
%%% was killed;</li>
%%% <li>`econnreset': the peer reset the transport, as its system does for a process that ends with
%%% unread data; `etimedout' and other values of `inet:posix()': the transport failed;</li>
%%% <li>`bad_packet': a packet was forged, replayed or malformed; `counter_exhausted': one side has
%%% sent as many messages as it may;</li>
%%% <li>`send_timeout': the peer has not read for as long as the socket option of this name
%%% allows;</li>
%%% <li>`crashed' or `internal': a fault of this application; its log has the details.</li>
%%% </ul> Timeouts are in milliseconds, at most 4,294,967,295, or `infinity'. Any process may send
%%% and receive. Calls on a closed socket return `{error, closed}'.
%%%
%%% An argument of the wrong type gives `{error, badarg}'. Unusable options give
%%% `{error, {bad_option, Option}}', naming the first of them, or `{error, {missing_option, Name}}';
%%% nothing is done in that case, and nothing is left behind. While the application is not running,
%%% functions that open a socket return `{error, {not_started, curve_tun}}'.
%%%
%%% A process on another node may hold a socket or a listener and call every function here with it,
%%% except {@link handshake/3} with a `gen_tcp' socket. The call runs on the socket's own node, and
%%% its timeout is measured there. If the connection between the nodes is lost, calls return
%%% `{error, closed}', and a controller on the other node counts as dead.
%%% @end
-module(curve_tun).

-export([connect/3, connect/4, listen/2, accept/1, accept/2]).
-export([transport_accept/1, transport_accept/2, handshake/1, handshake/2, handshake/3]).
-export([send/2, send_many/2, recv/1, recv/2, recv/3, close/1, shutdown/2]).
-export([controlling_process/2, setopts/2, getopts/2]).
-export([peername/1, sockname/1, peer_public_key/1, connection_information/1, getstat/1, connections/0, i/0]).
-export([public_key/0, public_key_to_text/1, public_key_from_text/1, format_error/1]).

-export_type([socket/0, listen_socket/0, public_key/0, active/0, first_use/0, option/0, option_error/0]).

-type socket() :: {curve_tun_socket, Connection :: pid(), gen_tcp:socket(), curve_tun_nif:connection()}.
%% One end of a tunnel. Its structure may change.
-type listen_socket() :: {curve_tun_listen_socket, pid()}.
%% A listening socket. Its structure may change.
-type public_key() :: <<_:256>>.
%% A public key: 32 bytes.
-type active() :: boolean() | once | -32768..32767.
%% How messages reach the controller, as in `gen_tcp'. The default is `false'. With `true' only
%% memory bounds the controller's mailbox: a peer that sends faster than the controller reads fills
%% it. With `once' or a number, at most that many messages wait in the mailbox and
%% `receive_high_water' bytes here; beyond that the peer has to wait.
-type first_use() ::
    refuse | once | remember
  | fun((Host :: binary(), inet:port_number(), public_key()) -> refuse | once | remember).
%% What to do when a server without a known key offers this one: refuse to connect, connect this
%% once, or remember the key once the server has proven that it holds the secret key. A function may
%% ask its user, for as long as `connect' may take. A function that crashes, hangs or returns
%% anything else refuses.
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
  | {event_handler, {module(), Config :: term()}}
  | {packet, 0 | raw | 4}
  | {packet_size, pos_integer()}
  | {service, unicode:chardata()}
  | gen_tcp:option() | gen_tcp:connect_option() | gen_tcp:listen_option().
%% `key': the server's public key; without it `connect' uses the keys that the registry knows.
%% `vault' and `registry': providers to use instead of the first ones in the application's
%% environment. `known_servers': for `connect', the registry file of the servers that this client
%% knows, created if it does not exist; a known server is then accepted only with a known key, and
%% `first_use', `refuse' by default, decides about the others. `listener': for `listen', a name that
%% the registry is given for each client, at most 255 bytes without control characters.
%% `handshake_timeout': from TCP connected, or accepted, to the end of the handshake; 10,000 by
%% default. `receive_high_water': bytes of messages waiting for a receiver, above which nothing more
%% is read from the peer; 262,144 by default. Data already read by then comes on top: at most 8
%% reads of `buffer' bytes. `handshakes_max': handshakes that a listener has in flight at most,
%% 1,024 by default; `handshakes_per_source': how many of these one source may have, an IPv4 address
%% or the /64 of an IPv6 address, `infinity' by default; at either limit the oldest handshake of the
%% source that has most is evicted. `buffer': maximum bytes of one read of the socket, 131,072 by
%% default; a socket with little to read uses less. `event_handler': a module that is told of
%% handshakes and connections, see `curve_tun_events'. `packet': 0 for messages as they are, the
%% default; `raw' for a stream of bytes, 4 for one of larger messages, see {@link curve_tun_stream};
%% both ends need the same. `packet_size': with 4, the largest message that this end takes, in
%% bytes; 16,777,216 by default; less than 65,502 counts as that. `service': what a client asks the
%% server for when it opens a stream: 1 to 64 of `a' to `z', `0' to `9', `.', `_' and `-'. The
%% server finds it in {@link connection_information/1}. All other options go to `gen_tcp'; by
%% default `nodelay' and `keepalive' are true, `high_watermark' is 67,108,864, `send_timeout' 5,000,
%% and a listener's `backlog' 4,096.
%%
%% Options that mean nothing at an end are refused there: `key', `known_servers' and `first_use' at
%% a listener, `service' too; `listener', `handshakes_max', `handshakes_per_source' and `backlog' at
%% a client; a vault, registry or event handler whose module does not exist; of the options of
%% `gen_tcp', values of `packet' other than these three, `list', addresses of Unix sockets, and
%% `{inet_backend, socket}'. A client with `key' does not ask a registry for it.
-type option_error() :: {missing_option, atom()} | {bad_option, term()}.
%% What is wrong with the options: a required one that is missing, or the first unusable one, as it
%% was given.
-type reason() :: atom() | {aborted, 0..65535} | option_error() | curve_tun_nif:refusal() | {no_provider, vault | registry}
                | {not_started, curve_tun}.
%% {@link format_error/1} describes them in words.

-define(TIMEOUT, 5000).
%% The longest timeout accepted is the longest that the BEAM can wait, 49 days.
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#ffffffff))).
%% Checks a socket by its form. Whose it is, and whether it is open, only its process knows.
-define(IS_SOCKET(S), (tuple_size(S) =:= 4 andalso element(1, S) =:= curve_tun_socket andalso is_pid(element(2, S))
                       andalso is_reference(element(4, S)))).
-define(IS_LISTENER(L), (tuple_size(L) =:= 2 andalso element(1, L) =:= curve_tun_listen_socket
                         andalso is_pid(element(2, L)))).

%% @equiv connect(Host, Port, Options, infinity)
-spec connect(inet:socket_address() | inet:hostname(), inet:port_number(), [option()]) ->
          {ok, socket()} | {error, reason()}.
connect(Host, Port, Options) ->
    connect(Host, Port, Options, infinity).

%% @doc Connects to the holder of `{key, PublicKey}' at a host and performs the handshake, both
%% within the timeout.
%%
%% Without `key' the registry says which keys the server at this host and port has
%% (`curve_tun_registry:server_keys/2'), and they are tried in turn, each on its own connection.
%% Returns `{error, not_found}' when the registry knows none, `not_validated', `registry_failed';
%% `{error, {missing_option, key}}' when the registry is of a kind that knows no servers.
%%
%% With `{known_servers, File}' an untrusted key is refused before anything is sent:
%% `{error, {key_changed, Known, Offered}}' when the server is known by another key,
%% `{error, {key_denied, Offered}}', and `{error, {unknown_peer, Offered}}' when it is not known and
%% `first_use' refuses. While the file cannot be used no server is trusted; the reason says why.
%% Without `key', and with `known_servers', the host has to be an address or a name; anything else
%% is `badarg'. If a key that was to be remembered cannot be written down, the tunnel is still
%% opened: the result is `{ok, Socket}', a warning with the reason is logged, and the next use of
%% that server is a first use again.
%%
%% Returns `{error, eafnosupport}' for a Unix socket, `{error, wrong_server_key}' when the server
%% does not hold the secret of the key, or its vault is out of order, `{error, closed}' or
%% `{error, econnreset}' when it closed without reading, `{error, timeout}', or an error of
%% `gen_tcp:connect/4'. A client whose key the server does not accept is connected at first, and
%% then sees the connection close.
-spec connect(inet:socket_address() | inet:hostname(), inet:port_number(), [option()], timeout()) ->
          {ok, socket()} | {error, reason()}.
connect(Host, Port, Options, Timeout) when ?IS_TIMEOUT(Timeout) ->
    Deadline = curve_tun_time:deadline(Timeout),
    maybe_with(options(client, Options),
               fun(Own, Tcp) -> curve_tun_connector:connect(Host, Port, Own, Tcp, Deadline) end);
connect(_Host, _Port, _Options, _Timeout) ->
    {error, badarg}.

%% Parses the options of one side. They are unusable while the application is not running.
-spec options(client | server | accepted, term()) -> {ok, curve_tun_options:options(), [term()]} | {error, reason()}.
options(Side, Options) ->
    case {curve_tun_options:parse(Side, Options), curve_tun_app:check()} of
        {{ok, Own, Tcp}, ok} -> {ok, Own, Tcp};
        {{ok, _, _}, {error, Reason}} -> {error, Reason};
        {{error, Reason}, _} -> {error, Reason}
    end.

-spec maybe_with({ok, A, B}, fun((A, B) -> Result)) -> Result;
                ({error, reason()}, fun()) -> {error, reason()}.
maybe_with({ok, A, B}, Go) -> Go(A, B);
maybe_with({error, Reason}, _Go) -> {error, Reason}.

%% @doc Listens on a TCP port; 0 picks a free one, which {@link sockname/1} returns. The calling
%% process owns the listener.
%%
%% Returns an error of `gen_tcp:listen/2', or the failure of a vault or a registry: `vault_failed',
%% `registry_failed', or `timeout' after `handshake_timeout'.
-spec listen(inet:port_number(), [option()]) -> {ok, listen_socket()} | {error, reason()}.
listen(Port, Options) ->
    maybe_with(options(server, Options), fun(Own, Tcp) -> listen(Port, Own, Tcp) end).

-spec listen(inet:port_number(), curve_tun_options:options(), [term()]) ->
          {ok, listen_socket()} | {error, reason()}.
listen(Port, Own, Tcp) ->
    try gen_tcp:listen(Port, Tcp) of
        {ok, TcpSocket} -> curve_tun_listener:start(TcpSocket, Own);
        {error, Reason} -> curve_tun_options:refused(Reason, Tcp)
    catch
        _:_ -> curve_tun_options:refused(badarg, Tcp)
    end.

%% @equiv accept(ListenSocket, 5000)
-spec accept(listen_socket()) -> {ok, socket()} | {error, reason()}.
accept(ListenSocket) ->
    accept(ListenSocket, ?TIMEOUT).

%% @doc Returns the next client whose handshake is complete.
%%
%% While a process waits here, the handshakes of all incoming clients run side by side, so a slow or
%% silent client delays nobody else. A client that is refused, because the registry does not know it
%% or for any other reason, is skipped: accept goes on to the next one. Processes waiting in accept
%% are served in the order of their calls. In a listener's active mode the first messages wait until
%% the connection is accepted, and go to the accepting process like all later ones. Returns
%% `{error, emfile}' when the node is out of descriptors; the client waits in the backlog, and a
%% later call tries again.
-spec accept(listen_socket(), timeout()) -> {ok, socket()} | {error, reason()}.
accept({_, Listener} = ListenSocket, Timeout) when ?IS_LISTENER(ListenSocket), ?IS_TIMEOUT(Timeout) ->
    curve_tun_listener:accept(Listener, accept, Timeout);
accept(_ListenSocket, _Timeout) ->
    {error, badarg}.

%% @equiv transport_accept(ListenSocket, 5000)
-spec transport_accept(listen_socket()) -> {ok, socket()} | {error, reason()}.
transport_accept(ListenSocket) ->
    transport_accept(ListenSocket, ?TIMEOUT).

%% @doc Returns the next client that has connected by TCP. {@link handshake/2} does the rest, before
%% the listener's `handshake_timeout' expires.
%%
%% Until its handshake is complete the client holds one of the permits that `handshakes_max' and
%% `handshakes_per_source' limit, as do the clients that {@link accept/2} waits for. It is closed
%% when it is evicted in favour of another client, whether or not its handshake has begun, and when
%% the listener ends.
-spec transport_accept(listen_socket(), timeout()) -> {ok, socket()} | {error, reason()}.
transport_accept({_, Listener} = ListenSocket, Timeout) when ?IS_LISTENER(ListenSocket), ?IS_TIMEOUT(Timeout) ->
    curve_tun_listener:accept(Listener, transport, Timeout);
transport_accept(_ListenSocket, _Timeout) ->
    {error, badarg}.

%% @equiv handshake(Socket, infinity)
-spec handshake(socket()) -> {ok, socket()} | {error, reason()}.
handshake(Socket) ->
    handshake(Socket, infinity).

%% @doc Performs the handshake with a client from {@link transport_accept/2}. On an error the socket
%% is closed.
%%
%% Returns `{error, unknown_peer}' when the registry does not accept the client's key from its
%% address; `{error, vault_failed}' and `{error, registry_failed}' when they cannot tell;
%% `{error, too_many_handshakes}' when it was evicted in favour of another client meanwhile;
%% `{error, closed}' when the client has left, or was evicted before this call;
%% `{error, econnreset}' and similar errors when the client reset the transport, also before this
%% call; and `{error, timeout}'. With a `gen_tcp' socket and options this is
%% `handshake(TcpSocket, Options, infinity)'.
-spec handshake(socket(), timeout()) -> {ok, socket()} | {error, reason()};
               (gen_tcp:socket(), [option()]) -> {ok, socket()} | {error, reason()}.
handshake({_, Connection, _, _} = Socket, Timeout) when ?IS_SOCKET(Socket), ?IS_TIMEOUT(Timeout) ->
    curve_tun_request:handshake(Connection, Timeout);
handshake(TcpSocket, Options) when is_list(Options) ->
    handshake(TcpSocket, Options, infinity);
handshake(_Socket, _Timeout) ->
    {error, badarg}.

%% @doc Turns a connected `gen_tcp' socket of the calling process into a tunnel: the client's end if
%% the options have the server's `key', otherwise the server's end.
%%
%% The socket has to be passive, since nothing that the peer sends for the tunnel may have been
%% read. On an error of the handshake the socket is closed.
%%
%% A socket that cannot become a tunnel is left as it is: `{error, badarg}' for anything but a TCP
%% socket of this node, `{error, not_owner}' for another process's socket, `{error, closed}',
%% `{error, enotconn}', `{error, eafnosupport}' for a Unix socket, and
%% `{error, {bad_option, {inet_backend, socket}}}' for a socket that is not a port but belongs to
%% the other backend of `gen_tcp'. A node started with `-kernel inet_backend socket' makes only
%% sockets of that backend, unless `{inet_backend, inet}' is their first option. {@link connect/4}
%% and {@link listen/2} open sockets of the right kind on any node.
-spec handshake(gen_tcp:socket(), [option()], timeout()) -> {ok, socket()} | {error, reason()}.
handshake(TcpSocket, Options, Timeout) when ?IS_TIMEOUT(Timeout) ->
    Deadline = curve_tun_time:deadline(Timeout),
    maybe_with(options(accepted, Options),
               fun(Own, Tcp) ->
                   curve_tun_connector:over_given(TcpSocket, Tcp, fun() -> own_end(Own, Deadline) end, Deadline)
               end);
handshake(_TcpSocket, _Options, _Timeout) ->
    {error, badarg}.

%% A server's minute key serves only this connection and ends with it, so nothing has to rotate it.
-spec own_end(curve_tun_options:options(), curve_tun_time:deadline()) ->
          {ok, curve_tun_connection:prepared()} | {error, reason()}.
own_end(#{key := _} = Own, Deadline) -> curve_tun_endpoint:client(Own, Deadline);
own_end(Own, Deadline) -> curve_tun_endpoint:server(Own, Deadline).

%% @doc Sends a message of 0 to 65,503 bytes, or data of any size over a stream. Returns when the
%% message is on its way. Any process may call it; messages of one process arrive in the order of
%% its calls.
%%
%% A single message is in the TCP socket's queue on return. When messages are sent in quick
%% succession, up to 128 KiB of them may wait in the connection, which writes them together: they
%% follow at once, even if the connection is closed or its owner ends. As with TCP, `ok' is not an
%% acknowledgement by the peer: data in flight when a connection fails is lost.
%%
%% Returns `{error, emsgsize}' for a larger message and `{error, badarg}' for anything but iodata:
%% nothing is sent then, and the connection stays usable. Returns `{error, timeout}' when the peer
%% has not read for the socket's `send_timeout' while `high_watermark' bytes wait: the connection is
%% closed then. Otherwise `{error, closed}'.
%%
%% With `{packet, 4}' the limit is the peer's `packet_size'. A message of more than 65,502 bytes
%% waits until the peer has opened its end; after `send_timeout' that is `{error, timeout}', nothing
%% is sent, and the connection stays open.
-spec send(socket(), iodata()) -> ok | {error, emsgsize | badarg | timeout | closed | wrong_state | atom()}.
send(Socket, Message) when ?IS_SOCKET(Socket) ->
    curve_tun_sender:send_many(Socket, [Message]);
send(_Socket, _Message) ->
    {error, badarg}.

%% @doc Sends many messages in order, in one call: much faster than one by one. Either all are valid
%% or none is sent. The results are those of {@link send/2}.
-spec send_many(socket(), [iodata()]) -> ok | {error, emsgsize | badarg | timeout | closed | wrong_state | atom()}.
send_many(Socket, Messages) when ?IS_SOCKET(Socket) ->
    curve_tun_sender:send_many(Socket, Messages);
send_many(_Socket, _Messages) ->
    {error, badarg}.

%% @equiv recv(Socket, 5000)
-spec recv(socket()) -> binary() | {error, timeout | closed | einval | wrong_state | badarg | reason()}.
recv(Socket) ->
    recv(Socket, ?TIMEOUT).

%% @doc Returns the next message as a bare binary. Several receivers are served in the order of
%% their calls; a receiver that times out leaves the queue and takes no message with it.
%%
%% After the connection has ended, messages already received are still returned. Then one call, the
%% first of those waiting, gets the reason as `{error, Reason}', and all others get
%% `{error, closed}'. Returns `{error, einval}' in an active mode.
-spec recv(socket(), timeout()) -> binary() | {error, timeout | closed | einval | wrong_state | badarg | reason()}.
recv({_, Connection, _, _} = Socket, Timeout) when ?IS_SOCKET(Socket), ?IS_TIMEOUT(Timeout) ->
    curve_tun_request:recv(Connection, Timeout);
recv(_Socket, _Timeout) ->
    {error, badarg}.

%% @doc The same in the form of `gen_tcp:recv/3': returns `{ok, Message}'. The length has to be 0,
%% since messages have their own; any other gives `{error, {bad_length, Length}}', and no message is
%% taken.
%%
%% Of a stream of bytes, a length of up to 67,108,864 waits for exactly so many, and 0 for what is
%% there, at least one. After a timeout, and when the stream has ended before, the bytes stay.
-spec recv(socket(), Length :: non_neg_integer(), timeout()) ->
          {ok, binary()} | {error, timeout | closed | einval | wrong_state | badarg | {bad_length, integer()} | reason()}.
recv({_, Connection, _, _} = Socket, Length, Timeout) when ?IS_SOCKET(Socket), ?IS_TIMEOUT(Timeout), is_integer(Length) ->
    curve_tun_request:recv_tagged(Connection, Length, Timeout);
recv(_Socket, _Length, _Timeout) ->
    {error, badarg}.

%% @doc Closes a connection or a listener. Returns `ok' at once, always. Data sent before is still
%% delivered as long as the peer reads it, for at most 5 seconds without progress. A stream is
%% finished, see {@link curve_tun_stream}.
-spec close(socket() | listen_socket()) -> ok | {error, badarg}.
close({_, Connection, _, _} = Socket) when ?IS_SOCKET(Socket) ->
    _ = curve_tun_request:call(Connection, close),
    ok;
close({_, Listener} = ListenSocket) when ?IS_LISTENER(ListenSocket) ->
    _ = curve_tun_listener:call(Listener, close),
    ok;
close(_Socket) ->
    {error, badarg}.

%% @doc Ends sending (`write'), receiving (`read') or both. The protocol has no half-open
%% connections: a peer of this implementation closes when it sees the end, after receiving all that
%% was sent before it. A stream has two directions: `write' finishes this end's, and returns when
%% the end is on its way; `read' ends receiving, of which the peer is not told; `read_write' is
%% {@link close/1}.
-spec shutdown(socket(), read | write | read_write) -> ok | {error, closed | wrong_state | badarg}.
shutdown({_, Connection, _, _} = Socket, How)
  when ?IS_SOCKET(Socket) andalso (How =:= read orelse How =:= write orelse How =:= read_write) ->
    curve_tun_request:call(Connection, {shutdown, How});
shutdown(_Socket, _How) ->
    {error, badarg}.

%% @doc Makes another process the controller. Only the controller may call it: others get
%% `{error, not_owner}'. Messages already in its mailbox are passed on to the new controller, in
%% order, even if the connection has ended by then.
-spec controlling_process(socket() | listen_socket(), pid()) -> ok | {error, not_owner | closed | badarg}.
controlling_process(Socket, Pid) when ?IS_SOCKET(Socket), is_pid(Pid) ->
    curve_tun_controller:hand_over(Socket, Pid);
controlling_process({_, Listener} = ListenSocket, Pid) when ?IS_LISTENER(ListenSocket), is_pid(Pid) ->
    curve_tun_listener:call(Listener, {controlling_process, Pid});
controlling_process(_Socket, _Pid) ->
    {error, badarg}.

%% @doc Sets options of an open socket: `{active, _}' and those of `inet:setopts/2' that do not
%% affect the tunnel. An option that cannot be set is named in the error, and then none is set,
%% unless it was the system that refused it. `{active, _}' is set last.
-spec setopts(socket(), [option()]) -> ok | {error, closed | einval | wrong_state | badarg | option_error() | inet:posix()}.
setopts({_, Connection, _, _} = Socket, Options) when ?IS_SOCKET(Socket) ->
    maybe_with(curve_tun_options:check_settable(Options),
               fun(Active, Tcp) ->
                   case Tcp =:= [] orelse with_tcp(Socket, setopts, [Tcp]) of
                       {error, Reason} -> curve_tun_options:refused(Reason, Tcp);
                       _ when Active =:= undefined -> ok;
                       _ -> curve_tun_request:call(Connection, {set_active, Active})
                   end
               end);
setopts(_Socket, _Options) ->
    {error, badarg}.

%% @doc Returns options: `active' and those of `inet:getopts/2'.
-spec getopts(socket(), [atom()]) -> {ok, [term()]} | {error, closed | wrong_state | badarg | inet:posix()}.
getopts({_, Connection, _, _} = Socket, Names) when ?IS_SOCKET(Socket), length(Names) >= 0 ->
    Active = case lists:member(active, Names) of
                 true -> curve_tun_request:call(Connection, get_active);
                 false -> none
             end,
    case {Active, with_tcp(Socket, getopts, [lists:delete(active, Names)])} of
        {{ok, Mode}, {ok, Values}} -> {ok, [{active, Mode} | Values]};
        {none, {ok, Values}} -> {ok, Values};
        {{error, Reason}, _} -> {error, Reason};
        {_, {error, Reason}} -> {error, Reason}
    end;
getopts(_Socket, _Names) ->
    {error, badarg}.

%% @doc Returns the peer's address and port.
-spec peername(socket()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, closed | badarg | inet:posix()}.
peername(Socket) when ?IS_SOCKET(Socket) ->
    with_tcp(Socket, peername, []);
peername(_Socket) ->
    {error, badarg}.

%% @doc Returns the local address and port of a connection or a listener.
-spec sockname(socket() | listen_socket()) ->
          {ok, {inet:ip_address(), inet:port_number()}} | {error, closed | badarg | inet:posix()}.
sockname(Socket) ->
    with_tcp(Socket, sockname, []).

%% @doc Returns counters of the TCP socket, as `inet:getstat/1' does.
-spec getstat(socket() | listen_socket()) -> {ok, [{inet:stat_option(), integer()}]} | {error, closed | badarg | inet:posix()}.
getstat(Socket) ->
    with_tcp(Socket, getstat, []).

-spec with_tcp(socket() | listen_socket(), atom(), [term()]) -> term().
with_tcp({_, Connection, _, _} = Socket, Function, Arguments) when ?IS_SOCKET(Socket) ->
    curve_tun_tcp:of_connection(Connection, Function, Arguments);
with_tcp({_, Listener} = ListenSocket, Function, Arguments) when ?IS_LISTENER(ListenSocket) ->
    curve_tun_tcp:of_listener(Listener, Function, Arguments);
with_tcp(_Socket, _Function, _Arguments) ->
    {error, badarg}.

%% @doc Returns the peer's long-term public key. The peer has proven that it holds the secret key.
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

%% @doc Returns what is known of a connection: `protocol', `role' (`client' or `server'), `state',
%% and once connected `peer_public_key'. With a stream also `packet', and at a server `service' if
%% the client has named one.
%%
%% For a connection that ended other than by {@link close/1} on this side, the `state' is `closed'
%% and `reason' says why, for as long as anybody holds the socket. For any other closed connection
%% the result is `{error, closed}'.
-spec connection_information(socket()) -> {ok, [{atom(), term()}]} | {error, closed | wrong_state | badarg}.
connection_information({_, Connection, _, _} = Socket) when ?IS_SOCKET(Socket) ->
    curve_tun_tcp:at(node(Connection), curve_tun_info, of_socket, [Socket], closed);
connection_information(_Socket) ->
    {error, badarg}.

%% @doc Returns all connections of this node whose transport is open, for operators: the peer's
%% address, its key as text, or `none' until it is proven, which end this is, the bytes of the TCP
%% connection in each direction, and when it began, in UTC. No connection is woken for it.
-spec connections() -> [curve_tun_info:connection()].
connections() ->
    curve_tun_info:of_all().

%% @doc Prints {@link connections/0} as a table, as `inet:i/0' does.
-spec i() -> ok.
i() ->
    curve_tun_info:print(connections()).

%% @doc Returns the public key of the default vault, by which peers know this node.
-spec public_key() -> {ok, public_key()} | {error, reason()}.
public_key() ->
    maybe_with(options(client, []), fun(Own, _Tcp) -> public_key(Own) end).

-spec public_key(curve_tun_options:options()) -> {ok, public_key()} | {error, reason()}.
public_key(Own) ->
    case curve_tun_endpoint:vault(Own, curve_tun_time:deadline(?TIMEOUT)) of
        {ok, _Provider, Vault} -> {ok, curve_tun_nif:vault_public_key(Vault)};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Returns a public key in its printable form, 44 characters of base64, which the C library and
%% the tools also use. Anything but a public key raises an error of reason `badarg'.
-spec public_key_to_text(public_key()) -> binary().
public_key_to_text(Key) ->
    curve_tun_nif:public_key_to_text(Key).

%% @doc Reads the printable form of a public key. Anything else gives `{error, bad_key_text}'.
-spec public_key_from_text(binary() | string()) -> {ok, public_key()} | {error, bad_key_text}.
public_key_from_text(Text) ->
    try iolist_to_binary(Text) of
        Binary -> curve_tun_nif:public_key_from_text(Binary)
    catch
        error:badarg -> {error, bad_key_text}
    end.

%% @doc Describes a reason in English: one that a function of this application returns, bare or in
%% `{error, Reason}', or with which the application fails to start.
-spec format_error(Reason :: term()) -> string().
format_error(Reason) ->
    curve_tun_reason:text(Reason).
