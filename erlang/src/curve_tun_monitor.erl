%%% @private
%%% Watches the connections. When the process of one has crashed, nobody else is left to wipe its
%%% keys and to tell its controller.
-module(curve_tun_monitor).
-behaviour(gen_server).

-export([start_link/0, watch/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

%% The controller of each connection, the socket by which it knows the connection, and which end
%% that is.
-type watched() :: #{pid() => {Controller :: pid(), curve_tun:socket(), client | server}}.

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Watches the calling connection, or takes note of its new controller.
-spec watch(pid(), curve_tun:socket(), client | server) -> ok.
watch(Controller, Socket, Role) ->
    gen_server:cast(?MODULE, {watch, self(), {Controller, Socket, Role}}).

%% After a crash of ours the connections say again what they are.
-spec init([]) -> {ok, watched()}.
init([]) ->
    _ = [curve_tun_request:watch_again(Pid) || Pid <- curve_tun_connection_sup:children()],
    {ok, #{}}.

-spec handle_call(term(), gen_server:from(), watched()) -> {reply, {error, badarg}, watched()}.
handle_call(_Call, _From, Watched) ->
    {reply, {error, badarg}, Watched}.

-spec handle_cast(term(), watched()) -> {noreply, watched()}.
handle_cast({watch, Connection, Known}, Watched) ->
    _ = is_map_key(Connection, Watched) orelse monitor(process, Connection),
    {noreply, Watched#{Connection => Known}}.

-spec handle_info(term(), watched()) -> {noreply, watched()}.
handle_info({'DOWN', _Ref, process, Connection, Reason}, Watched) ->
    {{Controller, {curve_tun_socket, _, _, Nif} = Socket, Role}, Rest} = maps:take(Connection, Watched),
    ok = ended(Nif, Role, in_order(Reason)),
    _ = in_order(Reason) orelse tell(Controller, Socket),
    {noreply, Rest};
handle_info(_Info, Watched) ->
    {noreply, Watched}.

-spec in_order(term()) -> boolean().
in_order({shutdown, _}) -> true;
in_order(Reason) -> Reason =:= normal orelse Reason =:= shutdown orelse Reason =:= noproc.

%% The keys of a connection are with a NIF that may be gone.
-spec ended(curve_tun_nif:connection(), client | server, InOrder :: boolean()) -> ok.
ended(Nif, Role, InOrder) ->
    try
        _ = InOrder orelse curve_tun_nif:ended(Nif, Role, crashed),
        curve_tun_nif:close(Nif)
    catch
        error:Reason when Reason =:= badarg; Reason =:= undef -> ok
    end.

-spec tell(pid(), curve_tun:socket()) -> ok.
tell(Controller, Socket) ->
    Controller ! {curve_tun_error, Socket, crashed},
    Controller ! {curve_tun_closed, Socket},
    ok.

-spec code_change(term(), watched(), term()) -> {ok, watched()}.
code_change(_OldVsn, Watched, _Extra) ->
    {ok, Watched}.
