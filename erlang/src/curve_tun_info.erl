%%% @private
%%% Information on connections: on one for a process that has its socket, on all for an operator.
-module(curve_tun_info).

-export([of_socket/1, of_all/0, print/1, key/1]).
-export_type([connection/0]).

-type connection() :: #{peer := {inet:ip_address(), inet:port_number()}, key := binary() | none, role := client | server,
                        bytes_sent := non_neg_integer(), bytes_received := non_neg_integer(),
                        since := calendar:datetime()}.

%% See curve_tun:connection_information/1; the socket belongs to this node.
-spec of_socket(curve_tun:socket()) -> {ok, [{atom(), term()}]} | {error, closed | wrong_state}.
of_socket({curve_tun_socket, Connection, _, Nif}) ->
    try
        case curve_tun_request:call(Connection, information) of
            {ok, State, Role, _} -> {ok, information(Nif, State, Role)};
            {error, closed} -> of_closed(Nif);
            {error, Reason} -> {error, Reason}
        end
    catch
        %% The NIF that it was made with is gone.
        error:Failed when Failed =:= badarg; Failed =:= undef -> {error, closed}
    end.

-spec of_closed(curve_tun_nif:connection()) -> {ok, [{atom(), term()}]} | {error, closed}.
of_closed(Nif) ->
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
    [{protocol, {curve_tun, 1, 0}}, {role, Role}, {state, State} | Peer ++ stream(curve_tun_nif:stream_information(Nif))].

-spec stream(none | {curve_tun_nif:packet(), binary() | none}) -> [{packet | service, term()}].
stream(none) -> [];
stream({Packet, none}) -> [{packet, Packet}];
stream({Packet, Service}) -> [{packet, Packet}, {service, Service}].

%% See curve_tun:connections/0. No connection is called or woken.
-spec of_all() -> [connection()].
of_all() ->
    Now = {curve_tun_time:now_ms(), erlang:system_time(millisecond)},
    lists:append([shown(Watched, Now) || Watched <- curve_tun_monitor:watched()]).

-spec shown(curve_tun_monitor:watched(), {non_neg_integer(), integer()}) -> [connection()].
shown({_, {curve_tun_socket, _, Tcp, Nif}, Role, Since, _}, {NowMs, SystemMs}) ->
    case {inet:peername(Tcp), inet:getstat(Tcp, [recv_oct, send_oct])} of
        {{ok, Peer}, {ok, [{recv_oct, Received}, {send_oct, Sent}]}} ->
            Began = calendar:system_time_to_universal_time(SystemMs - (NowMs - Since), millisecond),
            [#{peer => Peer, key => key(Nif), role => Role, bytes_sent => Sent, bytes_received => Received, since => Began}];
        %% Its transport has ended.
        _ ->
            []
    end.

%% Returns the peer's key as text, if it is proven.
-spec key(curve_tun_nif:connection() | undefined) -> binary() | none.
key(undefined) ->
    none;
key(Nif) ->
    try proven(curve_tun_nif:peer_public_key(Nif), Nif)
    catch error:_ -> none
    end.

-spec proven({ok, curve_tun:public_key()} | none | {error, atom()}, curve_tun_nif:connection()) -> binary() | none.
proven({ok, Key}, _Nif) -> curve_tun_nif:public_key_to_text(Key);
proven({error, wrong_state}, Nif) -> proven(curve_tun_nif:proven_public_key(Nif), Nif);
proven(none, _Nif) -> none.

%% Prints them as a table, like inet:i/0.
-spec print([connection()]) -> ok.
print(Connections) ->
    Rows = [["Role", "Peer", "Sent", "Received", "Since (UTC)", "Key"] | [row(C) || C <- Connections]],
    Widths = [lists:max([length(Cell) || Cell <- Column]) || Column <- columns(Rows)],
    lists:foreach(fun(Row) -> io:put_chars([string:trim(padded(Row, Widths), trailing), $\n]) end, Rows).

-spec row(connection()) -> [string()].
row(#{role := Role, peer := Peer, bytes_sent := Sent, bytes_received := Received, since := Since, key := Key}) ->
    {{Y, M, D}, {H, Mi, S}} = Since,
    Time = io_lib:format("~b-~2..0b-~2..0b ~2..0b:~2..0b:~2..0b", [Y, M, D, H, Mi, S]),
    [atom_to_list(Role), curve_tun_log:peer_text(Peer), integer_to_list(Sent), integer_to_list(Received),
     lists:flatten(Time), case Key of none -> "-"; _ -> binary_to_list(Key) end].

-spec columns([[string()]]) -> [[string()]].
columns([[] | _]) -> [];
columns(Rows) -> [[hd(Row) || Row <- Rows] | columns([tl(Row) || Row <- Rows])].

-spec padded([string()], [pos_integer()]) -> string().
padded(Row, Widths) ->
    lists:append([string:pad(Cell, Width + 2) || {Cell, Width} <- lists:zip(Row, Widths)]).
