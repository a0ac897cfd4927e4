%%% @doc Rotates the minute keys under which servers seal their cookies.
%%%
%%% Each listener's keys live on the Rust side. This process has every key replaced when its minute
%%% is over, even without traffic, so each is overwritten on time. No key enters the heap of a
%%% process, and no call returns one.
%%% @end
-module(curve_tun_cookie).
-behaviour(gen_server).

-export([start_link/0, watch/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
%% Has the server's minute keys rotated for as long as the calling process lives. The caller
%% monitors this process, and calls again if it was restarted.
-spec watch(curve_tun_nif:server()) -> {ok, pid()} | {error, closed}.
watch(Server) ->
    try {ok, gen_server:call(?MODULE, {watch, Server})}
    catch exit:_ -> {error, closed}
    end.

%% @private
-spec init([]) -> {ok, #{reference() => curve_tun_nif:server()}}.
init([]) ->
    {ok, #{}}.

%% @private
-spec handle_call(term(), gen_server:from(), map()) -> {reply, term(), map()}.
handle_call({watch, Server}, {Pid, _}, Servers) ->
    {reply, self(), tick(monitor(process, Pid), Server, Servers)};
handle_call(_Call, _From, Servers) ->
    {reply, {error, badarg}, Servers}.

%% @private
-spec handle_cast(term(), map()) -> {noreply, map()}.
handle_cast(_Cast, Servers) ->
    {noreply, Servers}.

%% @private
-spec handle_info(term(), map()) -> {noreply, map()} | {noreply, map(), hibernate}.
handle_info({tick, Monitor}, Servers) when is_map_key(Monitor, Servers) ->
    {noreply, tick(Monitor, map_get(Monitor, Servers), Servers)};
handle_info({'DOWN', Monitor, process, _, _}, Servers) ->
    %% A server left in this process's memory would keep its vault open.
    {noreply, maps:remove(Monitor, Servers), hibernate};
handle_info(_Info, Servers) ->
    {noreply, Servers}.

%% @private
-spec code_change(term(), map(), term()) -> {ok, map()}.
code_change(_OldVsn, Servers, _Extra) ->
    {ok, Servers}.

%% Rotates the keys that are due, and schedules the next rotation. If there is no memory for a new
%% key, the old one stays for now. A server of an unloaded NIF has no keys left.
-spec tick(reference(), curve_tun_nif:server(), map()) -> map().
tick(Monitor, Server, Servers) ->
    Now = curve_tun_time:now_ms(),
    try curve_tun_nif:server_tick(Server, Now) of
        {ok, Next} -> ticks(max(1, Next - Now), Monitor, Servers#{Monitor => Server});
        {error, _} -> ticks(1000, Monitor, Servers#{Monitor => Server})
    catch
        error:Reason when Reason =:= badarg; Reason =:= undef ->
            demonitor(Monitor, [flush]),
            maps:remove(Monitor, Servers)
    end.

-spec ticks(pos_integer(), reference(), map()) -> map().
ticks(Wait, Monitor, Servers) ->
    _ = erlang:send_after(Wait, self(), {tick, Monitor}),
    Servers.
