%%% @private
%%% The receiving end of a connection: waiting messages, waiting receivers, and the active mode.
%%%
%%% At most one of the two queues is non-empty: a message goes to the receiver that has waited
%%% longest, or to the controller in an active mode, or waits.
-module(curve_tun_receivers).

-export([new/1, arrived/2, recv/3, expired/2, gone/2, set_active/2, active/1]).
-export([end_with/2, is_over/1, bytes/1, deliver/3]).
-export_type([receivers/0]).

-record(receivers, {
    messages = queue:new() :: queue:queue(binary()),
    bytes = 0 :: non_neg_integer(),
    waiting = queue:new() :: queue:queue({gen_statem:from(), Monitor :: reference(), Timer :: reference() | none}),
    active :: curve_tun:active(),
    %% How the connection ended, if it has; `told' once the controller or a receiver knows.
    ended = no :: no | {closed, Reason :: atom()} | told
}).
-opaque receivers() :: #receivers{}.

%% The controller and the socket by which it knows the connection.
-type controller() :: {pid(), curve_tun:socket()}.

-spec new(curve_tun:active()) -> receivers().
new(Active) ->
    %% A count that starts used up is reported with the first delivery.
    #receivers{active = if is_integer(Active) -> max(0, Active); true -> Active end}.

-spec active(receivers()) -> curve_tun:active().
active(#receivers{active = Active}) -> Active.

%% Returns the bytes that wait for a receiver. Each message counts slightly more than its size,
%% since empty ones take memory too.
-spec bytes(receivers()) -> non_neg_integer().
bytes(#receivers{bytes = Bytes}) -> Bytes.

%% Adds received messages, in order. `deliver/3' passes them on to the controller.
-spec arrived([binary()], receivers()) -> receivers().
arrived([], Rx) ->
    Rx;
arrived([Message | Rest] = Messages, #receivers{waiting = Waiting} = Rx) ->
    case queue:out(Waiting) of
        {{value, Receiver}, Others} ->
            reply(Receiver, Message),
            arrived(Rest, Rx#receivers{waiting = Others});
        {empty, _} ->
            lists:foldl(fun keep/2, Rx, Messages)
    end.

-spec keep(binary(), receivers()) -> receivers().
keep(Message, #receivers{messages = Queue, bytes = Bytes} = Rx) ->
    Rx#receivers{messages = queue:in(Message, Queue), bytes = Bytes + weight(Message)}.

-spec weight(binary()) -> pos_integer().
weight(Message) -> byte_size(Message) + 64.

%% Delivers messages to the controller as far as the active mode allows: first those that wait, then
%% those just received.
-spec deliver([binary()], controller(), receivers()) -> receivers().
deliver(Arrived, {Pid, Socket} = Controller, #receivers{active = true, bytes = 0, ended = no} = Rx) ->
    case queue:is_empty(Rx#receivers.waiting) of
        true ->
            _ = [Pid ! {curve_tun, Socket, Message} || Message <- Arrived],
            Rx;
        false ->
            feed(Controller, arrived(Arrived, Rx))
    end;
deliver(Arrived, Controller, Rx) ->
    tell_end(Controller, feed(Controller, arrived(Arrived, Rx))).

-spec feed(controller(), receivers()) -> receivers().
feed(_Controller, #receivers{active = false} = Rx) ->
    Rx;
feed({Pid, Socket}, #receivers{active = 0} = Rx) ->
    Pid ! {curve_tun_passive, Socket},
    Rx#receivers{active = false};
feed({Pid, Socket} = Controller, #receivers{messages = Queue, bytes = Bytes, active = Active} = Rx) ->
    case queue:out(Queue) of
        {empty, _} ->
            Rx;
        {{value, Message}, Rest} ->
            Pid ! {curve_tun, Socket, Message},
            Next = Rx#receivers{messages = Rest, bytes = Bytes - weight(Message)},
            feed(Controller, Next#receivers{active = used(Active, Controller)})
    end.

%% Returns the active mode after one message.
-spec used(curve_tun:active(), controller()) -> curve_tun:active().
used(true, _) -> true;
used(once, _) -> false;
used(1, {Pid, Socket}) -> Pid ! {curve_tun_passive, Socket}, false;
used(N, _) -> N - 1.

%% Sets the active mode as gen_tcp does: a number is added to what is left of the previous one.
-spec set_active(curve_tun:active(), receivers()) -> {ok | passive, receivers()} | {error, einval}.
set_active(N, #receivers{active = Active} = Rx) when is_integer(N) ->
    Left = if is_integer(Active) -> Active + N; true -> N end,
    if
        Left > 32767 -> {error, einval};
        Left =< 0 -> {passive, Rx#receivers{active = false}};
        true -> {ok, Rx#receivers{active = Left}}
    end;
set_active(Active, Rx) ->
    {ok, Rx#receivers{active = Active}}.

%% Handles a call of recv, and replies now or later.
-spec recv(gen_statem:from(), timeout(), receivers()) -> receivers().
recv(From, _Timeout, #receivers{active = Active} = Rx) when Active =/= false ->
    gen_statem:reply(From, {error, einval}),
    Rx;
recv(From, Timeout, #receivers{messages = Queue, bytes = Bytes, waiting = Waiting, ended = Ended} = Rx) ->
    case queue:out(Queue) of
        {{value, Message}, Rest} ->
            gen_statem:reply(From, Message),
            Rx#receivers{messages = Rest, bytes = Bytes - weight(Message)};
        {empty, _} when Ended =/= no ->
            gen_statem:reply(From, {error, untold(Ended)}),
            Rx#receivers{ended = told};
        {empty, _} when Timeout =:= 0 ->
            gen_statem:reply(From, {error, timeout}),
            Rx;
        {empty, _} ->
            {Pid, _} = From,
            Timer = if Timeout =:= infinity -> none; true -> erlang:start_timer(Timeout, self(), recv) end,
            Rx#receivers{waiting = queue:in({From, monitor(process, Pid), Timer}, Waiting)}
    end.

%% Returns what is still to be reported of the end: its reason, the first time.
-spec untold({closed, Reason :: atom()} | told) -> Reason :: atom().
untold({closed, Reason}) -> Reason;
untold(told) -> closed.

-spec reply({gen_statem:from(), reference(), reference() | none}, term()) -> ok.
reply({From, Monitor, Timer}, Reply) ->
    demonitor(Monitor, [flush]),
    _ = Timer =:= none orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    gen_statem:reply(From, Reply).

%% Handles a receiver's timeout: it leaves the queue and takes no message with it.
-spec expired(reference(), receivers()) -> receivers().
expired(Timer, #receivers{waiting = Waiting} = Rx) ->
    Keep = fun({_, _, T} = Receiver) when T =:= Timer -> reply(Receiver, {error, timeout}), false;
              (_) -> true
           end,
    Rx#receivers{waiting = queue:filter(Keep, Waiting)}.

%% Handles the death of a receiver.
-spec gone(reference(), receivers()) -> receivers().
gone(Monitor, #receivers{waiting = Waiting} = Rx) ->
    Rx#receivers{waiting = queue:filter(fun({_, M, _}) -> M =/= Monitor end, Waiting)}.

%% Handles the end of messages. Those that wait can still be received. The receiver that has waited
%% longest gets the reason.
-spec end_with(atom(), receivers()) -> receivers().
end_with(Reason, #receivers{waiting = Waiting, ended = no} = Rx) ->
    Tell = fun(Receiver, Ended) -> reply(Receiver, {error, untold(Ended)}), told end,
    Rx#receivers{waiting = queue:new(), ended = lists:foldl(Tell, {closed, Reason}, queue:to_list(Waiting))};
end_with(_Reason, Rx) ->
    Rx.

%% Tells an active controller of the end, once it has received all messages.
-spec tell_end(controller(), receivers()) -> receivers().
tell_end({Pid, Socket}, #receivers{active = Active, bytes = 0, ended = {closed, Reason}} = Rx) when Active =/= false ->
    _ = [Pid ! {curve_tun_error, Socket, Reason} || Reason =/= closed],
    Pid ! {curve_tun_closed, Socket},
    Rx#receivers{active = false, ended = told};
tell_end(_Controller, Rx) ->
    Rx.

%% Says whether the connection has ended, nothing waits, and the controller knows.
-spec is_over(receivers()) -> boolean().
is_over(#receivers{ended = told, bytes = 0}) -> true;
is_over(#receivers{}) -> false.
