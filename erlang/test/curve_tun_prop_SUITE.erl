%%% Properties of the stateful API (PropEr): a pair of sockets against a model of two queues.
-module(curve_tun_prop_SUITE).

-import(proper_types, [binary/0, byte/0, frequency/1, list/1, oneof/1, range/2]).

%% Debian's package comes without PropEr's header.
-define(FORALL(X, Type, Property), proper:forall(Type, fun(X) -> Property end)).
-define(LET(X, Type, Generator), proper_types:bind(Type, fun(X) -> Generator end, false)).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 300}}].

all() -> [a_pair_behaves_as_two_queues, registries_behave_as_lists_of_networks].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

a_pair_behaves_as_two_queues(_) ->
    true = proper:quickcheck(prop_pair(), [{numtests, 150}, {max_size, 60}]).

%%% The pair. The model has, for each side, the messages in flight to it and its active mode, and
%%% whether the pair is open.

prop_pair() ->
    ?FORALL(Commands, proper_statem:commands(?MODULE),
            begin
                curve_tun_test:flush(),
                Pair = curve_tun_test:pair(),
                put(pair, Pair),
                {History, State, Result} = proper_statem:run_commands(?MODULE, Commands),
                curve_tun_test:stop_pair(Pair),
                Show = fun() -> io:format("~p~n~p~n~p~n", [History, State, Result]) end,
                proper:whenfail(Show, fun() -> Result =:= ok end)
            end).

-record(side, {coming = [] :: [binary()], active = false :: boolean() | once | pos_integer()}).

initial_state() ->
    #{open => true, a => #side{}, b => #side{}}.

command(#{open := true}) ->
    frequency([{10, {call, ?MODULE, send, [side(), message()]}},
               {3, {call, ?MODULE, send_many, [side(), list(message())]}},
               {2, {call, ?MODULE, refused, [side(), bad_message()]}},
               {10, {call, ?MODULE, recv, [side()]}},
               {3, {call, ?MODULE, empty_recv, [side()]}},
               {4, {call, ?MODULE, set_active, [side(), oneof([true, false, once, range(1, 5)])]}},
               {4, {call, ?MODULE, take, [side(), oneof([true, false])]}},
               {1, {call, ?MODULE, close, [side()]}}]);
command(#{open := {closed_by, Side}}) ->
    Other = other(Side),
    frequency([{5, {call, ?MODULE, recv, [Other]}},
               {2, {call, ?MODULE, closed_recv, [Side]}},
               {2, {call, ?MODULE, closed_send, [Side, message()]}}]).

side() -> oneof([a, b]).
message() -> oneof([binary(), {large, range(1000, 65503)}, list(oneof([binary(), byte()]))]).
bad_message() -> oneof([{binary:copy(<<0>>, 65504), emsgsize}, {atom, badarg}, {[1, atom], badarg}, {<<1:1>>, badarg}]).

iodata({large, Size}) -> [binary:copy(<<5>>, Size div 2), binary:copy(<<6>>, Size - Size div 2)];
iodata(Message) -> Message.

%% Keeps a large message short in the model, and in output.
flat(Message) -> erlang:md5(iodata(Message)).

other(a) -> b;
other(b) -> a.

precondition(#{open := true} = S, {call, _, recv, [Side]}) ->
    #side{coming = Coming, active = Active} = map_get(Side, S),
    Coming =/= [] andalso Active =:= false;
precondition(#{open := true} = S, {call, _, empty_recv, [Side]}) ->
    #side{coming = Coming, active = Active} = map_get(Side, S),
    Coming =:= [] andalso Active =:= false;
precondition(#{open := true} = S, {call, _, take, [Side, Last]}) ->
    #side{coming = Coming, active = Active} = map_get(Side, S),
    Coming =/= [] andalso Active =/= false andalso Last =:= (Active =:= 1);
%% Only a passive pair is closed: which messages an active one has received is the subject of
%% another test.
precondition(#{open := true, a := #side{active = A}, b := #side{active = B}}, {call, _, close, _}) ->
    A =:= false andalso B =:= false;
%% A mode may be set when nothing is in flight, or to a mode that takes what is.
precondition(#{open := true} = S, {call, _, set_active, [Side, _]}) ->
    #side{coming = Coming, active = Active} = map_get(Side, S),
    Coming =:= [] orelse Active =:= false;
precondition(#{open := true}, {call, _, Call, _}) ->
    lists:member(Call, [send, send_many, refused]);
precondition(#{open := {closed_by, Side}}, {call, _, recv, [Other]}) -> Other =:= other(Side);
precondition(#{open := {closed_by, Side}}, {call, _, closed_recv, [Side]}) -> true;
precondition(#{open := {closed_by, Side}}, {call, _, closed_send, [Side, _]}) -> true;
precondition(_, _) -> false.

next_state(S, _, {call, _, send, [Side, Message]}) -> coming(S, other(Side), [flat(Message)]);
next_state(S, _, {call, _, send_many, [Side, Messages]}) ->
    coming(S, other(Side), [flat(M) || M <- Messages]);
next_state(S, _, {call, _, recv, [Side]}) ->
    #side{coming = Coming} = Model = map_get(Side, S),
    S#{Side := Model#side{coming = case Coming of [] -> []; [_ | Rest] -> Rest end}};
next_state(S, _, {call, _, set_active, [Side, Mode]}) ->
    #side{active = Active} = Model = map_get(Side, S),
    New = if is_integer(Mode), is_integer(Active) -> Mode + Active; true -> Mode end,
    S#{Side := Model#side{active = New}};
next_state(S, _, {call, _, take, [Side, _]}) ->
    #side{coming = [_ | Rest], active = Active} = Model = map_get(Side, S),
    S#{Side := Model#side{coming = Rest, active = after_one(Active)}};
next_state(S, _, {call, _, close, [Side]}) ->
    %% Messages in flight to the closing side are lost.
    S#{open := {closed_by, Side}, Side := #side{}};
next_state(S, _, _) ->
    S.

after_one(true) -> true;
after_one(once) -> false;
after_one(1) -> false;
after_one(N) -> N - 1.

coming(S, Side, Messages) ->
    #side{coming = Coming} = Model = map_get(Side, S),
    S#{Side := Model#side{coming = Coming ++ Messages}}.

postcondition(S, {call, _, recv, [Side]}, Result) ->
    case map_get(Side, S) of
        #side{coming = [First | _]} -> is_binary(Result) andalso erlang:md5(Result) =:= First;
        #side{coming = []} -> Result =:= {error, closed}
    end;
postcondition(S, {call, _, take, [Side, Last]}, Result) ->
    #side{coming = [First | _]} = map_get(Side, S),
    {Message, Passive} = Result,
    erlang:md5(Message) =:= First andalso Passive =:= Last;
postcondition(_, {call, _, refused, [_, {_, Reason}]}, Result) -> Result =:= {error, Reason};
postcondition(_, {call, _, empty_recv, _}, Result) -> Result =:= {error, timeout};
postcondition(_, {call, _, closed_recv, _}, Result) -> Result =:= {error, closed};
postcondition(_, {call, _, closed_send, _}, Result) -> Result =:= {error, closed};
postcondition(_, _, Result) -> Result =:= ok.

socket(a) -> element(1, get(pair));
socket(b) -> element(2, get(pair)).

send(Side, Message) -> curve_tun:send(socket(Side), iodata(Message)).
send_many(Side, Messages) -> curve_tun:send_many(socket(Side), [iodata(Message) || Message <- Messages]).
refused(Side, {Message, _}) -> curve_tun:send(socket(Side), Message).
recv(Side) -> curve_tun:recv(socket(Side), 10000).
empty_recv(Side) -> curve_tun:recv(socket(Side), 0).
set_active(Side, Mode) -> curve_tun:setopts(socket(Side), [{active, Mode}]).
close(Side) -> curve_tun:close(socket(Side)).
closed_recv(Side) -> curve_tun:recv(socket(Side), 0).
closed_send(Side, Message) -> curve_tun:send(socket(Side), iodata(Message)).

%% Takes one message to the controller and, if it is the last of a count, the passive message.
take(Side, Last) ->
    Socket = socket(Side),
    Message = receive {curve_tun, Socket, M} -> M after 10000 -> nothing end,
    Passive = Last andalso receive {curve_tun_passive, Socket} -> true after 10000 -> false end,
    {Message, Passive}.

%%% The registry, against a model that searches a list

registries_behave_as_lists_of_networks(_) ->
    true = proper:quickcheck(prop_registry(), [{numtests, 300}]).

%% Few different addresses, so that networks overlap.
address() -> ?LET({A, B}, {range(0, 1), range(0, 3)}, {10, A, 0, B}).
network() -> ?LET({Address, Prefix}, {address(), oneof([0, 8, 16, 30, 31, 32])}, {mask(Address, Prefix), Prefix}).
key() -> ?LET(N, range(1, 3), <<N:256>>).

mask({A, B, C, D}, Prefix) ->
    <<Bits:Prefix/bitstring, _/bitstring>> = <<A, B, C, D>>,
    <<E, F, G, H>> = <<Bits/bitstring, 0:(32 - Prefix)>>,
    {E, F, G, H}.

prop_registry() ->
    ?FORALL({Steps, Address}, {list({oneof([add, add, remove]), network(), key()}), address()},
            begin
                Registry = curve_tun_nif:registry_new(),
                Model = lists:foldl(fun(Step, M) -> step(Step, Registry, M) end, [], Steps),
                Expected = expected(Address, Model),
                Ref = make_ref(),
                {ok, Expected} =:= curve_tun_nif:registry_lookup(Registry, Address, Ref)
                    andalso lists:all(fun(Key) ->
                                          {ok, lists:member(Key, Expected)} =:=
                                              curve_tun_nif:registry_verify(Registry, Address, Key, Ref)
                                      end, [<<N:256>> || N <- [1, 2, 3]])
            end).

step({add, Network, Key}, Registry, Model) ->
    ok = curve_tun_nif:registry_add(Registry, Network, Key),
    case lists:member({Network, Key}, Model) of
        true -> Model;
        false -> Model ++ [{Network, Key}]
    end;
step({remove, Network, Key}, Registry, Model) ->
    Expected = case lists:member({Network, Key}, Model) of true -> ok; false -> {error, not_found} end,
    Expected = curve_tun_nif:registry_remove(Registry, Network, Key),
    lists:delete({Network, Key}, Model).

%% Returns the keys of the most specific network that holds the address and has any.
expected(Address, Model) ->
    Holding = [{Prefix, Key} || {{Base, Prefix}, Key} <- Model, mask(Address, Prefix) =:= Base],
    Most = lists:max([-1 | [Prefix || {Prefix, _} <- Holding]]),
    lists:sort([Key || {Prefix, Key} <- Holding, Prefix =:= Most]).
