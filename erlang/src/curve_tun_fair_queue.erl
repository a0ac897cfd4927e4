%%% @private
%%% Decides which process may call a provider written in Erlang next.
%%%
%%% The number of concurrent calls of a provider is limited. Callers wait here, where they can
%%% leave, and not in the mailbox of the provider's process, where they cannot. Sources take turns:
%%% the next call goes to the source with the fewest calls in progress and, among several of those,
%%% to the one whose last call returned longest ago. So the requests of one address delay only its
%%% own.
%%%
%%% A call that has begun counts until it returns, even if nobody waits for its answer any more,
%%% because the provider is still working on it. A peer's address has no turn while such abandoned
%%% calls of its own make up half of the limit. src/blocking.rs of the crate does the same for the
%%% providers of the NIF.
-module(curve_tun_fair_queue).
-behaviour(gen_server).

-export([start_link/0, call/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3]).
-export_type([turn/0, source/0]).

-type source() :: curve_tun_nif:source() | local.
%% The source is a peer's address, or this node itself.
-type turn() :: #{connection := pid(), source := source(), provider := module(), at_once := pos_integer()}.

%% A process that calls a provider for a connection, once or several times.
-record(caller, {
    turn :: turn(),
    monitor :: reference(),
    connection :: reference(),
    %% The caller waits for a message with `Tag'.
    state :: {waiting, non_neg_integer(), Tag :: reference()} | calling | between,
    abandoned = false :: boolean()
}).

%% The requests for one source at one provider.
-record(source, {calling = 0 :: non_neg_integer(), abandoned = 0 :: non_neg_integer(), since :: non_neg_integer(),
                 waiting = gb_sets:empty() :: gb_sets:set({non_neg_integer(), pid()})}).

-record(provider, {
    calling = 0 :: non_neg_integer(),
    sources = #{} :: #{source() => #source{}},
    %% Every source that waits and may have a turn, the next one first.
    ranks = gb_sets:empty() :: gb_sets:set(rank())
}).
-type rank() :: {non_neg_integer(), non_neg_integer(), source()}.

-record(turns, {next = 0 :: non_neg_integer(), callers = #{} :: #{pid() => #caller{}},
                providers = #{} :: #{module() => #provider{}}}).

%% How long an abandoned call may continue: as long as `gen_server:call/2' waits.
-define(ABANDONED, 5000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Calls a provider when it is the calling process's turn. That process exists for one connection's
%% request, and is killed if the connection ends while it is not calling.
-spec call(turn(), fun(() -> Value)) -> Value.
call(Turn, Fun) ->
    Tag = monitor(process, ?MODULE),
    gen_server:cast(?MODULE, {take, self(), Tag, Turn}),
    ok = wait(Tag),
    true = demonitor(Tag, [flush]),
    Value = Fun(),
    gen_server:cast(?MODULE, {done, self()}),
    Value.

-spec wait(reference()) -> ok | {error, closed}.
wait(Tag) ->
    receive
        {Tag, go} -> ok;
        {'DOWN', Tag, process, _, _} -> {error, closed}
    end.

-spec init([]) -> {ok, #turns{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #turns{}}.

%% Callers that wait see this process exit.
-spec terminate(term(), #turns{}) -> ok.
terminate(_Reason, #turns{callers = Callers}) ->
    _ = [exit(Pid, kill) || Pid <- maps:keys(Callers)],
    ok.

-spec code_change(term(), #turns{}, term()) -> {ok, #turns{}}.
code_change(_OldVsn, T, _Extra) ->
    {ok, T}.

-spec handle_call(term(), gen_server:from(), #turns{}) -> {reply, {error, badarg}, #turns{}}.
handle_call(_Call, _From, T) ->
    {reply, {error, badarg}, T}.

-spec handle_cast(term(), #turns{}) -> {noreply, #turns{}}.
handle_cast({take, Pid, Tag, Turn}, #turns{next = Next, callers = Callers} = T) ->
    Caller = caller(Pid, Turn, Callers),
    Queued = enqueue(Pid, Next, Turn, T#turns{next = Next + 1}),
    Waiting = Caller#caller{turn = Turn, state = {waiting, Next, Tag}},
    {noreply, next(Turn, Queued#turns{callers = Callers#{Pid => Waiting}})};
handle_cast({done, Pid}, #turns{callers = Callers} = T) ->
    case Callers of
        #{Pid := #caller{state = calling, turn = Turn, abandoned = Abandoned} = Caller} ->
            _ = Abandoned andalso exit(Pid, kill),
            Between = T#turns{callers = Callers#{Pid := Caller#caller{state = between}}},
            {noreply, next(Turn, left(Turn, Abandoned, Between))};
        %% It was called before this process crashed and restarted.
        #{} ->
            {noreply, T}
    end;
handle_cast(_Cast, T) ->
    {noreply, T}.

-spec handle_info(term(), #turns{}) -> {noreply, #turns{}}.
handle_info({'DOWN', Ref, process, Pid, _}, #turns{callers = Callers} = T) when is_map_key(Pid, Callers) ->
    {#caller{monitor = Ref, connection = Connection} = Caller, Rest} = maps:take(Pid, Callers),
    demonitor(Connection, [flush]),
    {noreply, gone(Pid, Caller, T#turns{callers = Rest})};
handle_info({{connection_gone, Pid}, _Ref, process, _, _}, T) ->
    {noreply, abandon(Pid, T)};
handle_info({timeout, _, {abandoned, Pid, Ref}}, #turns{callers = Callers} = T) ->
    _ = case Callers of
            #{Pid := #caller{monitor = Ref}} -> exit(Pid, kill);
            #{} -> gone
        end,
    {noreply, T};
handle_info(_Info, T) ->
    {noreply, T}.

-spec caller(pid(), turn(), #{pid() => #caller{}}) -> #caller{}.
caller(Pid, #{connection := Connection} = Turn, Callers) ->
    case Callers of
        #{Pid := Caller} ->
            Caller;
        #{} ->
            Watched = erlang:monitor(process, Connection, [{tag, {connection_gone, Pid}}]),
            #caller{turn = Turn, monitor = monitor(process, Pid), connection = Watched, state = between}
    end.

%% Marks a caller whose result nobody waits for any more.
-spec abandon(pid(), #turns{}) -> #turns{}.
abandon(Pid, #turns{callers = Callers} = T) ->
    case Callers of
        #{Pid := #caller{state = calling, monitor = Ref, turn = Turn} = Caller} ->
            _ = erlang:start_timer(?ABANDONED, self(), {abandoned, Pid, Ref}),
            change(Turn, fun(#source{abandoned = N} = S) -> S#source{abandoned = N + 1} end,
                   T#turns{callers = Callers#{Pid := Caller#caller{abandoned = true}}});
        #{Pid := _} ->
            exit(Pid, kill),
            T;
        #{} ->
            T
    end.

-spec gone(pid(), #caller{}, #turns{}) -> #turns{}.
gone(Pid, #caller{state = {waiting, Number, _}, turn = Turn}, T) ->
    change(Turn, fun(#source{waiting = Waiting} = S) -> S#source{waiting = gb_sets:del_element({Number, Pid}, Waiting)} end, T);
gone(_Pid, #caller{state = calling, turn = Turn, abandoned = Abandoned}, T) ->
    next(Turn, left(Turn, Abandoned, T));
gone(_Pid, #caller{state = between}, T) ->
    T.

-spec enqueue(pid(), non_neg_integer(), turn(), #turns{}) -> #turns{}.
enqueue(Pid, Number, Turn, T) ->
    change(Turn, fun(#source{waiting = Waiting} = S) -> S#source{waiting = gb_sets:add_element({Number, Pid}, Waiting)} end, T).

%% Admits the callers whose turn it is.
-spec next(turn(), #turns{}) -> #turns{}.
next(#{provider := Module, at_once := AtOnce} = Turn, #turns{providers = Providers} = T) ->
    case Providers of
        #{Module := #provider{calling = Calling, ranks = Ranks}} when Calling < AtOnce ->
            case gb_sets:is_empty(Ranks) of
                true ->
                    T;
                false ->
                    {_, _, Source} = gb_sets:smallest(Ranks),
                    next(Turn, let_call(Turn#{source := Source}, T))
            end;
        #{} ->
            T
    end.

-spec let_call(turn(), #turns{}) -> #turns{}.
let_call(#{provider := Module, source := Source} = Turn, #turns{providers = Providers} = T) ->
    #{Module := #provider{sources = #{Source := #source{waiting = Waiting}}}} = Providers,
    {{_, Pid}, Rest} = gb_sets:take_smallest(Waiting),
    #turns{callers = #{Pid := #caller{state = {waiting, _, Tag}} = Caller} = Callers} = T,
    case is_process_alive(map_get(connection, Caller#caller.turn)) of
        true ->
            Pid ! {Tag, go},
            Calling = Callers#{Pid := Caller#caller{state = calling}},
            change(Turn, fun(#source{calling = N} = S) -> S#source{calling = N + 1, waiting = Rest} end,
                   T#turns{callers = Calling});
        %% Its exit will be reported shortly.
        false ->
            exit(Pid, kill),
            Gone = Callers#{Pid := Caller#caller{state = between}},
            change(Turn, fun(S) -> S#source{waiting = Rest} end, T#turns{callers = Gone})
    end.

%% Records that a call has returned: its source now ranks behind those that came meanwhile.
-spec left(turn(), Abandoned :: boolean(), #turns{}) -> #turns{}.
left(Turn, Abandoned, #turns{next = Next} = T) ->
    change(Turn, fun(#source{calling = N, abandoned = M} = S) ->
                     S#source{calling = N - 1, abandoned = M - if Abandoned -> 1; true -> 0 end, since = Next}
                 end, T#turns{next = Next + 1}).

%% Changes a source's entry at a provider, and updates the source's rank and the provider's count
%% with it.
-spec change(turn(), fun((#source{}) -> #source{}), #turns{}) -> #turns{}.
change(#{provider := Module, source := Source} = Turn, Change, #turns{next = Next, providers = Providers} = T) ->
    #provider{calling = Calling, sources = Sources, ranks = Ranks} = maps:get(Module, Providers, #provider{}),
    Before = maps:get(Source, Sources, #source{since = Next}),
    After = Change(Before),
    Others = gb_sets:del_element(rank(Source, Before), Ranks),
    Changed = #provider{calling = Calling + After#source.calling - Before#source.calling,
                        sources = case is_idle(After) of
                                      true -> maps:remove(Source, Sources);
                                      false -> Sources#{Source => After}
                                  end,
                        ranks = case has_turns(Turn, After) of
                                    true -> gb_sets:add_element(rank(Source, After), Others);
                                    false -> Others
                                end},
    case map_size(Changed#provider.sources) of
        0 -> T#turns{providers = maps:remove(Module, Providers)};
        _ -> T#turns{providers = Providers#{Module => Changed}}
    end.

-spec is_idle(#source{}) -> boolean().
is_idle(#source{calling = Calling, waiting = Waiting}) ->
    Calling =:= 0 andalso gb_sets:is_empty(Waiting).

-spec has_turns(turn(), #source{}) -> boolean().
has_turns(#{source := Source, at_once := AtOnce}, #source{abandoned = Abandoned, waiting = Waiting}) ->
    not gb_sets:is_empty(Waiting) andalso (Source =:= local orelse Abandoned < max(1, AtOnce div 2)).

-spec rank(source(), #source{}) -> rank().
rank(Source, #source{calling = Calling, since = Since}) ->
    {Calling, Since, Source}.
