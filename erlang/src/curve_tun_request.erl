%%% @private
%%% The calls and casts to a connection's process.
-module(curve_tun_request).

-export([attach/4, handshake/2, handshake/5, handshake_for/1, handshake_over/1, refuse/2, offer/2, take/1]).
-export([recv/2, recv_tagged/3, tagged/1, call/2]).
-export([send_failed/2, sender_idle/3, watch_again/1, reloaded/1]).

%% Gives a new connection its TCP socket, which is the caller's. Returns the socket that programs
%% hold. The handshake timeout runs from here on.
-spec attach(pid(), gen_tcp:socket(), [term()], curve_tun_connection:prepared()) -> {ok, curve_tun:socket()} | {error, term()}.
attach(Connection, Socket, TcpOptions, Prepared) ->
    give_socket(Connection, Socket, {attach, Socket, TcpOptions, Prepared}).

-spec handshake(pid(), timeout()) -> {ok, curve_tun:socket()} | {error, atom()}.
handshake(Connection, Timeout) ->
    call(Connection, {handshake, Timeout}).

%% `attach/4' and `handshake/2' in one call.
-spec handshake(pid(), gen_tcp:socket(), [term()], curve_tun_connection:prepare(), curve_tun_time:deadline()) ->
          {ok, curve_tun:socket()} | {error, term()}.
handshake(Connection, Socket, TcpOptions, Prepare, Deadline) ->
    give_socket(Connection, Socket, {handshake, Socket, TcpOptions, Prepare, Deadline}).

%% Gives away the socket. The connection ends if it cannot have it.
-spec give_socket(pid(), gen_tcp:socket(), tuple()) -> {ok, curve_tun:socket()} | {error, term()}.
give_socket(Connection, Socket, Request) ->
    case gen_tcp:controlling_process(Socket, Connection) of
        ok ->
            call(Connection, Request);
        {error, Reason} ->
            _ = call(Connection, close),
            {error, Reason}
    end.

%% Has the handshake performed for the listener.
-spec handshake_for(pid()) -> ok.
handshake_for(Connection) ->
    gen_statem:cast(Connection, handshake).

%% Tells the listener of the calling connection that its handshake is complete, whoever requested
%% it. A connection whose handshake failed ends instead.
-spec handshake_over(pid()) -> ok.
handshake_over(Listener) ->
    Listener ! {handshake_over, self()},
    ok.

%% Ends the handshake of a connection that has no permit, or has lost it.
-spec refuse(pid(), atom()) -> ok.
refuse(Connection, Reason) ->
    gen_statem:cast(Connection, {refuse, Reason}).

%% Offers a listener's connection to the process that accepts it.
-spec offer(pid(), pid()) -> ok | {error, closed}.
offer(Connection, Controller) ->
    call(Connection, {offer, Controller}).

%% Takes the connection that the caller was offered. The caller becomes its controller, and its
%% active mode begins.
-spec take(pid()) -> ok | {error, closed | wrong_state}.
take(Connection) ->
    call(Connection, take).

-spec send_failed(pid(), atom()) -> ok.
send_failed(Connection, Reason) ->
    gen_statem:cast(Connection, {send_failed, Reason}).

%% Tells the connection that its sender has nothing to do after this number of requests.
-spec sender_idle(pid(), pid(), non_neg_integer()) -> ok.
sender_idle(Connection, Sender, Asked) ->
    gen_statem:cast(Connection, {sender_idle, Sender, Asked}).

%% Has the connection tell `curve_tun_monitor' what it is.
-spec watch_again(pid()) -> ok.
watch_again(Connection) ->
    gen_statem:cast(Connection, watch_again).

%% Ends the connection if the NIF that it was made with is no longer the loaded one.
-spec reloaded(pid()) -> ok.
reloaded(Connection) ->
    gen_statem:cast(Connection, reloaded).

%% Returns the next message, as a bare binary or as `{ok, Message}'.
-spec recv(pid(), timeout()) -> binary() | {error, atom()}.
recv(Connection, Timeout) ->
    call(Connection, {recv, Timeout}).

-spec recv_tagged(pid(), Length :: integer(), timeout()) -> {ok, binary()} | {error, term()}.
recv_tagged(Connection, 0, Timeout) ->
    curve_tun_call:call(Connection, {recv, Timeout}, [{fun ?MODULE:tagged/1, []}]);
recv_tagged(Connection, Length, Timeout) ->
    curve_tun_call:call(Connection, {recv, Length, Timeout}, [{fun ?MODULE:tagged/1, []}]).

-spec tagged(binary() | {error, term()}) -> {ok, binary()} | {error, term()}.
tagged(Message) when is_binary(Message) -> {ok, Message};
tagged(Error) -> Error.

%% Calls a connection. One that no longer exists counts as closed.
-spec call(pid(), term()) -> term().
call(Connection, Request) ->
    curve_tun_call:call(Connection, Request).
