%%% @doc Reports handshakes and connections to a module of the program, for metrics.
%%%
%%% The module is named by the option `{event_handler, {Module, Config}}' of a listener or a client,
%%% or by the same setting in the application's environment for those without the option. For the
%%% library `telemetry' the module is:
%%%
%%% ```
%%% -behaviour(curve_tun_events).
%%% -export([handle_event/4]).
%%% handle_event(Event, Measurements, Metadata, _) ->
%%%     telemetry:execute([curve_tun, Event], Measurements, Metadata).
%%% '''
%%%
%%% Each handshake of a server ends in one of `accepted', `refused' and `evicted', each successful
%%% handshake of a client in `connected', and each connection in `closed'. Clients that leave before
%%% their handshake has begun are not reported.
%%% @end
-module(curve_tun_events).

-export([is_handler/1, handler/1, refused/6, established/5, closed/7, crashed/5]).
-export_type([event/0, measurements/0, metadata/0, handler/0]).

-type event() :: accepted | refused | evicted | connected | closed.
-type measurements() :: #{duration_ms := non_neg_integer(), bytes_sent => non_neg_integer(),
                          bytes_received => non_neg_integer()}.
%% The duration: from TCP connected or accepted to the end of the handshake, or for `closed' from
%% there to the end of the connection. `closed' also has the bytes of the TCP connection in each
%% direction, including those of the handshake: bytes sealed, and bytes known to have been received.
%% Values that are unknown because the connection's process was killed are left out.
-type metadata() :: #{role := client | server, peer := {inet:ip_address(), inet:port_number()} | unknown,
                      key := binary() | none, listener := binary(), reason => curve_tun_nif:reason()}.
%% The peer's address; its key as text, once it is proven; the name of the listener, empty at a
%% client; and for `refused', `evicted' and `closed' the reason, as in {@link curve_tun:recv/2}.
-type handler() :: none | {module(), Config :: term(), Listener :: binary()}.

-callback handle_event(event(), measurements(), metadata(), Config :: term()) -> term().
%% Handles an event. It runs in the process of the connection, which serves nobody meanwhile, so it
%% must neither wait nor call functions of this application for that connection or its listener. If
%% that process has crashed, another one calls it. The return value is ignored. If the handler
%% crashes, the connection goes on and a warning is logged, at most a few times a second. The
%% configuration is copied for each connection.

%% @private
-spec is_handler(term()) -> boolean().
is_handler({Module, _Config}) -> is_atom(Module) andalso curve_tun_provider:exports(Module, handle_event, 4);
is_handler(_) -> false.

%% @private
%% Returns the handler that the options or the environment name.
-spec handler(curve_tun_options:options()) -> handler().
handler(#{listener := Listener} = Options) ->
    case Options of
        #{event_handler := {Module, Config}} -> {Module, Config, Listener};
        #{} -> configured(application:get_env(curve_tun, event_handler), Listener)
    end.

-spec configured({ok, {module(), term()}} | undefined, binary()) -> handler().
configured({ok, {Module, Config}}, Listener) -> {Module, Config, Listener};
configured(_, _Listener) -> none.

%% @private
%% Reports a failed handshake that began at `Since'.
-spec refused(handler(), curve_tun_nif:reason(), client | server, curve_tun_log:peer(), curve_tun_nif:connection() | undefined,
              non_neg_integer()) -> ok.
refused(none, _Reason, _Role, _Peer, _Nif, _Since) ->
    ok;
refused(Handler, Reason, Role, Peer, Nif, Since) ->
    Event = case Reason of too_many_handshakes -> evicted; _ -> refused end,
    tell(Handler, Event, duration(Since), (about(Role, Peer, Nif))#{reason => Reason}).

%% @private
-spec established(handler(), client | server, curve_tun_log:peer(), curve_tun_nif:connection(), non_neg_integer()) -> ok.
established(none, _Role, _Peer, _Nif, _Since) ->
    ok;
established(Handler, Role, Peer, Nif, Since) ->
    Event = case Role of server -> accepted; client -> connected end,
    tell(Handler, Event, duration(Since), about(Role, Peer, Nif)).

%% @private
%% Returns a function that reports the end. The report has the values of now, before the connection
%% is closed.
-spec closed(handler(), curve_tun_nif:reason(), client | server, curve_tun_log:peer(), curve_tun_nif:connection(), non_neg_integer(),
             non_neg_integer()) -> fun(() -> ok).
closed(none, _Reason, _Role, _Peer, _Nif, _Received, _Since) ->
    fun() -> ok end;
closed(Handler, Reason, Role, Peer, Nif, Received, Since) ->
    Measured = (maps:merge(duration(Since), sent(Nif)))#{bytes_received => Received},
    About = (about(Role, Peer, Nif))#{reason => Reason},
    fun() -> tell(Handler, closed, Measured, About) end.

%% @private
%% Reports for a connection whose process crashed before it could.
-spec crashed(handler(), client | server, curve_tun_log:peer(), curve_tun_nif:connection(), non_neg_integer()) -> ok.
crashed(Handler, Role, Peer, Nif, Since) ->
    About = (about(Role, Peer, Nif))#{reason => crashed},
    case {was_established(Nif), Role} of
        {true, _} -> tell(Handler, closed, maps:merge(duration(Since), sent(Nif)), About);
        {false, server} -> tell(Handler, refused, duration(Since), About);
        {false, client} -> ok
    end.

-spec was_established(curve_tun_nif:connection()) -> boolean().
was_established(Nif) ->
    try curve_tun_nif:peer_public_key(Nif) of
        {ok, _} -> true;
        {error, wrong_state} -> false
    catch
        error:_ -> false
    end.

-spec duration(non_neg_integer()) -> measurements().
duration(Since) ->
    #{duration_ms => max(0, curve_tun_time:now_ms() - Since)}.

%% Here and below: the NIF that the connection was made with may be gone.
-spec sent(curve_tun_nif:connection()) -> #{bytes_sent => non_neg_integer()}.
sent(Nif) ->
    try #{bytes_sent => curve_tun_nif:bytes_sent(Nif)}
    catch error:_ -> #{}
    end.

-spec about(client | server, curve_tun_log:peer(), curve_tun_nif:connection() | undefined) -> map().
about(Role, Peer, Nif) ->
    #{role => Role, peer => Peer, key => curve_tun_info:key(Nif)}.

-spec tell(handler(), event(), measurements(), map()) -> ok.
tell({Module, Config, Listener}, Event, Measurements, About) ->
    try Module:handle_event(Event, Measurements, About#{listener => Listener}, Config) of
        _ -> ok
    catch
        Class:Reason:Stack -> curve_tun_log:handler_failed(Module, Event, Class, Reason, Stack)
    end.
