%%% @private
%%% Watches the connections. If the process of one crashes, nobody else is left to wipe its keys and
%%% to tell its controller.
-module(curve_tun_monitor).
-behaviour(gen_server).

-export([start_link/0, begin_with/1, watch/1, watched/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

-export_type([watched/0]).

-type watched() :: {Controller :: pid(), curve_tun:socket(), client | server, Since :: non_neg_integer(),
                    none | {curve_tun_events:handler(), curve_tun_log:peer()}}.
%% A connection: its controller, the socket by which the controller knows it, which end it is, when
%% it began, and the event handler that is still to be told of its end.
-type connections() :: #{pid() => watched()}.

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Watches the calling connection from here on, so that nobody has its socket before. If this
%% process is not running, it asks the connections when it starts (`init/1').
-spec begin_with(watched()) -> ok.
begin_with(Connection) ->
    try gen_server:call(?MODULE, {watch, Connection})
    catch exit:_ -> ok
    end.

%% Records changes of the calling connection.
-spec watch(watched()) -> ok.
watch(Connection) ->
    gen_server:cast(?MODULE, {watch, self(), Connection}).

%% Returns all connections; none while the application is not running.
-spec watched() -> [watched()].
watched() ->
    try gen_server:call(?MODULE, watched, infinity)
    catch exit:_ -> []
    end.

%% After a restart of this process the connections identify themselves again.
-spec init([]) -> {ok, connections()}.
init([]) ->
    _ = [curve_tun_request:watch_again(Pid) || Pid <- curve_tun_connection_sup:children()],
    {ok, #{}}.

-spec handle_call(term(), gen_server:from(), connections()) -> {reply, ok | [watched()] | {error, badarg}, connections()}.
handle_call({watch, Connection}, {Pid, _}, Connections) ->
    {reply, ok, noted(Pid, Connection, Connections)};
handle_call(watched, _From, Connections) ->
    {reply, maps:values(Connections), Connections};
handle_call(_Call, _From, Connections) ->
    {reply, {error, badarg}, Connections}.

-spec handle_cast(term(), connections()) -> {noreply, connections()}.
handle_cast({watch, Pid, Connection}, Connections) ->
    {noreply, noted(Pid, Connection, Connections)}.

-spec noted(pid(), watched(), connections()) -> connections().
noted(Pid, Connection, Connections) ->
    _ = is_map_key(Pid, Connections) orelse monitor(process, Pid),
    Connections#{Pid => Connection}.

-spec handle_info(term(), connections()) -> {noreply, connections()}.
handle_info({'DOWN', _Ref, process, Pid, Reason}, Connections) ->
    {Connection, Rest} = maps:take(Pid, Connections),
    ok = ended(Connection, in_order(Reason)),
    {noreply, Rest};
handle_info(_Info, Connections) ->
    {noreply, Connections}.

-spec in_order(term()) -> boolean().
in_order({shutdown, _}) -> true;
in_order(Reason) -> Reason =:= normal orelse Reason =:= shutdown orelse Reason =:= noproc.

-spec ended(watched(), InOrder :: boolean()) -> ok.
ended({_, {curve_tun_socket, _, _, Nif}, _, _, _}, true) ->
    wiped(fun() -> curve_tun_nif:close(Nif) end);
ended({Controller, {curve_tun_socket, _, _, Nif} = Socket, Role, Since, Events}, false) ->
    wiped(fun() -> ok = curve_tun_nif:ended(Nif, Role, crashed), curve_tun_nif:close(Nif) end),
    Controller ! {curve_tun_error, Socket, crashed},
    Controller ! {curve_tun_closed, Socket},
    %% Whatever the program's handler does, this process continues.
    _ = [spawn(curve_tun_events, crashed, [Handler, Role, Peer, Nif, Since]) || {Handler, Peer} <- [Events]],
    ok.

%% The keys of a connection may belong to a NIF that is gone.
-spec wiped(fun(() -> ok)) -> ok.
wiped(Wipe) ->
    try Wipe()
    catch error:Reason when Reason =:= badarg; Reason =:= undef -> ok
    end.

-spec code_change(term(), connections(), term()) -> {ok, connections()}.
code_change(_OldVsn, Connections, _Extra) ->
    {ok, Connections}.
