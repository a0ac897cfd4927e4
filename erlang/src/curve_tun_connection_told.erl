%%% @private
%%% Reports on a connection: its end to the log and to holders of its socket, its identity to
%%% `curve_tun_monitor', and everything to the program's event handler.
-module(curve_tun_connection_told).

-include("curve_tun_connection.hrl").

-export([begin_watch/1, watch/1, established/1, refused/2, noted/2, closing/2, closed/2, ended/3]).

%% Has the monitor watch this connection before any process has its socket.
-spec begin_watch(#data{}) -> ok.
begin_watch(D) -> curve_tun_monitor:begin_with(watched(D)).

%% Tells the monitor what this connection is.
-spec watch(#data{}) -> ok.
watch(#data{self = undefined}) -> ok;
watch(D) -> curve_tun_monitor:watch(watched(D)).

-spec watched(#data{}) -> curve_tun_monitor:watched().
watched(#data{controller = {Controller, _}, self = Self, role = Role, peer = Peer, events = Events, since = Since}) ->
    {Controller, Self, Role, Since, case Events of none -> none; _ -> {Events, Peer} end}.

%% Reports that the handshake is complete.
-spec established(#data{}) -> ok.
established(#data{events = Events, role = Role, peer = Peer, nif = Nif, since = Since}) ->
    _ = Role =:= server andalso curve_tun_log:handshake(connected, Peer, curve_tun_nif:peer_public_key(Nif)),
    curve_tun_events:established(Events, Role, Peer, Nif, Since).

%% Reports that the handshake failed. A server logs which client it turned away; the client is told
%% nothing.
-spec refused(curve_tun_nif:reason(), #data{}) -> #data{}.
refused(Reason, #data{role = server, peer = Peer, nif = Nif} = D) ->
    curve_tun_log:handshake(Reason, Peer, proven(Reason, Nif)),
    tell_refused(Reason, D);
refused(Reason, D) ->
    noted(Reason, D),
    tell_refused(Reason, D).

%% The NIF it was made with may be gone, and with it what that knew of the client.
-spec proven(curve_tun_nif:reason(), curve_tun_nif:connection() | undefined) -> {ok, curve_tun:public_key()} | none.
proven(_Reason, undefined) ->
    none;
proven(Reason, Nif) ->
    ok = curve_tun_nif:ended(Nif, server, Reason),
    curve_tun_nif:proven_public_key(Nif).

%% Tells the program's event handler of a failed handshake. At a client this is the result of a
%% call.
-spec tell_refused(curve_tun_nif:reason(), #data{}) -> #data{}.
tell_refused(Reason, #data{role = server, events = Events, peer = Peer, nif = Nif, since = Since} = D0) ->
    D = told_events(D0),
    curve_tun_events:refused(Events, Reason, server, Peer, Nif, Since),
    D;
tell_refused(_Reason, D) ->
    told_events(D).

%% From here on nobody tells the handler again, whatever happens to this process.
-spec told_events(#data{}) -> #data{}.
told_events(#data{events = none} = D) ->
    D;
told_events(D0) ->
    D = D0#data{events = none},
    watch(D),
    D.

%% Records why the connection ended, for as long as anybody holds its socket, and logs it.
-spec noted(curve_tun_nif:reason(), #data{}) -> ok.
noted(Reason, #data{role = Role, peer = Peer, nif = Nif}) ->
    _ = Nif =:= undefined orelse curve_tun_nif:ended(Nif, Role, Reason),
    curve_tun_log:closed(Reason, Role, Peer).

%% Returns a function that tells the program's event handler of the end of a connection, once. It is
%% to be called when the connection has nothing else to do, since the handler may take its time.
-spec closing(curve_tun_nif:reason(), #data{}) -> {fun(() -> ok), #data{}}.
closing(Reason, #data{events = Events, role = Role, peer = Peer, nif = Nif, reader = Reader, since = Since} = D) ->
    {curve_tun_events:closed(Events, Reason, Role, Peer, Nif, curve_tun_reader:bytes(Reader), Since), told_events(D)}.

%% Tells the handler at once.
-spec closed(curve_tun_nif:reason(), #data{}) -> #data{}.
closed(Reason, D0) ->
    {Tell, D} = closing(Reason, D0),
    Tell(),
    D.

%% Reports an end that has not been reported: the owner or the application has ended.
-spec ended(term(), atom(), #data{}) -> #data{}.
ended(Reason, State, D) ->
    case Reason =:= normal orelse Reason =:= shutdown of
        true when State =:= connected; State =:= closing; State =:= closed -> closed(closed, D);
        true -> tell_refused(closed, D);
        %% For a crashed connection `curve_tun_monitor' reports it.
        false -> D
    end.
