%%% @doc Byte streams and large messages over a tunnel.
%%%
%%% A connection carries a stream if both ends are given the option `{packet, raw}', for bytes
%%% without borders, or `{packet, 4}', for messages of up to `packet_size' bytes. Otherwise the
%%% functions of {@link curve_tun} are the same. What differs:
%%% <ul>
%%% <li>Each direction has an end of its own. `curve_tun:shutdown(Socket, write)' finishes: the peer
%%% is told of the end after all that was sent before. An end that is told is one: when a connection
%%% is cut, the peer gets `truncated' and never an end.</li>
%%% <li>When the peer has finished, `curve_tun:recv' returns `{error, closed}' after the last data,
%%% each time. In an active mode the controller gets `{curve_tun_end, Socket}', and can still send.
%%% Once both directions have ended the connection closes, and it gets
%%% `{curve_tun_closed, Socket}'.</li>
%%% <li>`curve_tun:close/1' finishes too, unless that was done, and drops what the peer still sends.
%%% A peer that does not finish within 2 seconds is told that the rest of its stream is given
%%% up.</li>
%%% <li>The death of the controller, and {@link abort/2}, give the stream up in both directions. So
%%% does the application when it stops, but without a word. The peer sees a failure then, and never
%%% an end.</li>
%%% </ul>
%%%
%%% Further reasons of errors are:
%%% <ul>
%%% <li>`truncated': the connection ended before the peer had finished;</li>
%%% <li>`{aborted, Code}': the peer gave the stream up; the codes are those of {@link abort/2};</li>
%%% <li>`not_a_stream': the peer's program sends messages, and no stream;</li>
%%% <li>`bad_packet': also, the peer broke a rule of the stream layer, or has the other mode;</li>
%%% <li>`emsgsize': also, the peer began a message that is larger than `packet_size'.</li>
%%% </ul>
%%%
%%% A client opens the stream as soon as it is connected, and can send at once. A server's
%%% handshake is complete when the client has opened it, within `handshake_timeout': a client that
%%% does not is refused, and `accept' goes on to the next one. The server opens its end when a
%%% process takes the connection, that is when `accept' or `handshake' returns.
%%% @end
-module(curve_tun_stream).

-export([abort/2]).
-export([send_large/2]).

%% @doc Gives a stream up in both directions, and tells the peer why. Returns `ok' at once. Does
%% nothing where the stream has ended already.
%%
%% The codes are 0, given up; 2, a failure inside; 3, what the stream was forwarded from or to was
%% reset; 4, shutting down; 5, a limit of time has passed; 6, no such service, or not for this key;
%% 8, the target behind refused the connection; 9, it cannot be reached; 11, busy. Those that the
%% application sends by itself are 1, a rule was broken, and 10, a message is too large. Unknown
%% codes count as 0, at both ends.
-spec abort(curve_tun:socket(), Code :: 0..65535) -> ok | {error, closed | wrong_state | badarg}.
abort({curve_tun_socket, Connection, _, _}, Code) when is_pid(Connection), is_integer(Code), Code >= 0, Code =< 65535 ->
    curve_tun_request:call(Connection, {abort, Code});
abort(_Socket, _Code) ->
    {error, badarg}.

%% @private
%% Sends messages some of which are larger than one of the tunnel. Only a stream takes them.
-spec send_large(curve_tun:socket(), [iodata()]) -> ok | {error, atom()}.
send_large({curve_tun_socket, Connection, _, _}, Messages) ->
    try [iolist_to_binary(Message) || Message <- Messages] of
        Binaries -> curve_tun_request:call(Connection, {send_large, Binaries})
    catch
        error:_ -> {error, badarg}
    end.
