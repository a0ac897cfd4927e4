%%% @private
%%% The receiving end of a connection: waiting messages, waiting receivers, and the active mode.
%%%
%%% A message goes to the receiver that has waited longest, or to the controller in an active mode,
%%% or waits. So at most one of the two queues is non-empty. Of a stream of bytes the first receiver
%%% may want more than has come; then both wait.
-module(curve_tun_receivers).

-export([new/2, arrived/2, recv/4, expired/2, gone/2, set_active/2, active/1]).
-export([finish/1, end_with/2, drop/1, is_over/1, bytes/1, pressure/1, deliver/3]).
-export_type([receivers/0]).

-record(receivers, {
    kind = messages :: messages | bytes,
    messages = queue:new() :: queue:queue(binary()),
    bytes = 0 :: non_neg_integer(),
    %% Bytes of a stream that wait, exactly.
    size = 0 :: non_neg_integer(),
    waiting = queue:new() :: queue:queue(receiver()),
    active :: curve_tun:active(),
    %% Whether the peer of a stream has ended what it sends; `told' once the controller or a
    %% receiver knows.
    finished = no :: no | untold | told,
    %% How the connection ended, if it has; `told' once the controller or a receiver knows.
    ended = no :: no | {closed, curve_tun_nif:reason()} | told
}).
-opaque receivers() :: #receivers{}.

%% One that waits, and how many bytes it wants; 0 for a message, or any number of bytes.
-type receiver() :: {gen_statem:from(), Monitor :: reference(), Timer :: reference() | none, Length :: non_neg_integer()}.
%% The controller and the socket by which it knows the connection.
-type controller() :: {pid(), curve_tun:socket()}.

-spec new(curve_tun:active(), messages | bytes) -> receivers().
new(Active, Kind) ->
    %% A count that starts used up is reported with the first delivery.
    #receivers{kind = Kind, active = if is_integer(Active) -> max(0, Active); true -> Active end}.

-spec active(receivers()) -> curve_tun:active().
active(#receivers{active = Active}) -> Active.

%% Returns the bytes that wait for a receiver. Each message counts slightly more than its size,
%% since empty ones take memory too.
-spec bytes(receivers()) -> non_neg_integer().
bytes(#receivers{bytes = Bytes}) -> Bytes.

%% Returns how many of them nobody has asked for yet. A receiver may want more than the high-water
%% mark.
-spec pressure(receivers()) -> non_neg_integer().
pressure(#receivers{kind = messages, bytes = Bytes}) -> Bytes;
pressure(#receivers{bytes = Bytes, waiting = Waiting}) ->
    case queue:is_empty(Waiting) of
        true -> Bytes;
        false -> 0
    end.

%% Adds received messages, in order. `deliver/3' passes them on to the controller.
-spec arrived([binary()], receivers()) -> receivers().
arrived([], Rx) ->
    Rx;
arrived(Chunks, #receivers{kind = bytes} = Rx) ->
    serve(keep(Chunks, Rx));
arrived([Message | Rest] = Messages, #receivers{waiting = Waiting} = Rx) ->
    case queue:out(Waiting) of
        {{value, Receiver}, Others} ->
            reply(Receiver, Message),
            arrived(Rest, Rx#receivers{waiting = Others});
        {empty, _} ->
            keep(Messages, Rx)
    end.

%% The record is made anew once, and not for each message.
-spec keep([binary()], receivers()) -> receivers().
keep(Messages, #receivers{messages = Queue, bytes = Bytes, size = Size} = Rx) ->
    keep(Messages, Queue, Bytes, Size, Rx).

-spec keep([binary()], queue:queue(binary()), non_neg_integer(), non_neg_integer(), receivers()) -> receivers().
keep([Message | Rest], Queue, Bytes, Size, Rx) ->
    keep(Rest, queue:in(Message, Queue), Bytes + weight(Message), Size + byte_size(Message), Rx);
keep([], Queue, Bytes, Size, Rx) ->
    Rx#receivers{messages = Queue, bytes = Bytes, size = Size}.

-define(OVERHEAD, 64).

-spec weight(binary()) -> pos_integer().
weight(Message) -> byte_size(Message) + ?OVERHEAD.

%% Serves those who wait, in order, for as long as there is what the first of them wants.
-spec serve(receivers()) -> receivers().
serve(#receivers{waiting = Waiting} = Rx) ->
    case queue:out(Waiting) of
        {empty, _} ->
            Rx;
        {{value, {_, _, _, Length} = Receiver}, Others} ->
            case take(Length, Rx) of
                {Data, Next} -> reply(Receiver, Data), serve(Next#receivers{waiting = Others});
                none -> Rx
            end
    end.

%% Takes what a receiver wants, if it is there.
-spec take(Length :: non_neg_integer(), receivers()) -> {binary(), receivers()} | none.
take(_Length, #receivers{bytes = 0}) ->
    none;
take(_Length, #receivers{kind = messages} = Rx) ->
    first(Rx);
take(0, #receivers{messages = Queue} = Rx) ->
    {curve_tun_byte_queue:take_all(Queue), Rx#receivers{messages = queue:new(), bytes = 0, size = 0}};
take(Length, #receivers{messages = Queue, bytes = Bytes, size = Size} = Rx) when Length =< Size ->
    {Data, Rest, Count} = curve_tun_byte_queue:take(Length, Queue),
    {Data, Rx#receivers{messages = Rest, bytes = Bytes - Length - Count * ?OVERHEAD, size = Size - Length}};
take(_Length, _Rx) ->
    none.

-spec first(receivers()) -> {binary(), receivers()}.
first(#receivers{messages = Queue, bytes = Bytes, size = Size} = Rx) ->
    {{value, Message}, Rest} = queue:out(Queue),
    {Message, Rx#receivers{messages = Rest, bytes = Bytes - weight(Message), size = Size - byte_size(Message)}}.

%% Delivers messages to the controller as far as the active mode allows: first those that wait, then
%% those just received.
-spec deliver([binary()], controller(), receivers()) -> receivers().
deliver(Arrived, {Pid, Socket} = Controller, #receivers{active = true, bytes = 0, finished = no, ended = no} = Rx) ->
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
feed(_Controller, #receivers{bytes = 0} = Rx) ->
    Rx;
feed(Controller, #receivers{messages = Queue, bytes = Bytes, size = Size, active = Active, waiting = Waiting} = Rx) ->
    case queue:is_empty(Waiting) of
        true -> feed(Controller, Active, Queue, Bytes, Size, Rx);
        %% One that wants more of a stream than there is comes first.
        false -> Rx
    end.

-spec feed(controller(), curve_tun:active(), queue:queue(binary()), non_neg_integer(), non_neg_integer(), receivers()) ->
          receivers().
feed(_Controller, Active, Queue, Bytes, Size, Rx) when Active =:= false; Bytes =:= 0 ->
    Rx#receivers{messages = Queue, bytes = Bytes, size = Size, active = Active};
feed({Pid, Socket} = Controller, Active, Queue, Bytes, Size, Rx) ->
    {{value, Message}, Rest} = queue:out(Queue),
    Pid ! {curve_tun, Socket, Message},
    feed(Controller, used(Active, Controller), Rest, Bytes - weight(Message), Size - byte_size(Message), Rx).

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

%% Handles a call of recv, and replies now or later. The length is 0, except for a stream of bytes.
-spec recv(gen_statem:from(), Length :: non_neg_integer(), timeout(), receivers()) -> receivers().
recv(From, _Length, _Timeout, #receivers{active = Active} = Rx) when Active =/= false ->
    gen_statem:reply(From, {error, einval}),
    Rx;
recv(From, Length, Timeout, #receivers{waiting = Waiting} = Rx) ->
    case queue:is_empty(Waiting) andalso take(Length, Rx) of
        {Data, Next} ->
            gen_statem:reply(From, Data),
            Next;
        _ ->
            recv_later(From, Length, Timeout, Rx)
    end.

-spec recv_later(gen_statem:from(), non_neg_integer(), timeout(), receivers()) -> receivers().
recv_later(From, _Length, _Timeout, #receivers{ended = Ended} = Rx) when Ended =/= no ->
    gen_statem:reply(From, {error, untold(Rx)}),
    Rx#receivers{ended = told};
recv_later(From, _Length, _Timeout, #receivers{finished = Finished} = Rx) when Finished =/= no ->
    gen_statem:reply(From, {error, closed}),
    Rx#receivers{finished = told};
recv_later(From, _Length, 0, Rx) ->
    gen_statem:reply(From, {error, timeout}),
    Rx;
recv_later({Pid, _} = From, Length, Timeout, #receivers{waiting = Waiting} = Rx) ->
    Timer = if Timeout =:= infinity -> none; true -> erlang:start_timer(Timeout, self(), recv) end,
    Rx#receivers{waiting = queue:in({From, monitor(process, Pid), Timer, Length}, Waiting)}.

%% Returns what is still to be reported of the end: its reason, the first time. Nothing takes back
%% that the peer of a stream has finished.
-spec untold(receivers()) -> curve_tun_nif:reason().
untold(#receivers{finished = no, ended = {closed, Reason}}) -> Reason;
untold(#receivers{}) -> closed.

-spec reply(receiver(), term()) -> ok.
reply({From, Monitor, Timer, _}, Reply) ->
    demonitor(Monitor, [flush]),
    _ = Timer =:= none orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    gen_statem:reply(From, Reply).

%% Handles a receiver's timeout: it leaves the queue and takes no message with it.
-spec expired(reference(), receivers()) -> receivers().
expired(Timer, #receivers{waiting = Waiting} = Rx) ->
    Keep = fun({_, _, T, _} = Receiver) when T =:= Timer -> reply(Receiver, {error, timeout}), false;
              (_) -> true
           end,
    serve(Rx#receivers{waiting = queue:filter(Keep, Waiting)}).

%% Handles the death of a receiver.
-spec gone(reference(), receivers()) -> receivers().
gone(Monitor, #receivers{waiting = Waiting} = Rx) ->
    serve(Rx#receivers{waiting = queue:filter(fun({_, M, _, _}) -> M =/= Monitor end, Waiting)}).

%% Handles the end of what the peer of a stream sends. What waits can still be received; the
%% connection goes on.
-spec finish(receivers()) -> receivers().
finish(#receivers{waiting = Waiting, finished = no} = Rx) ->
    _ = [reply(Receiver, {error, closed}) || Receiver <- queue:to_list(Waiting)],
    Rx#receivers{waiting = queue:new(), finished = case queue:is_empty(Waiting) of true -> untold; false -> told end};
finish(Rx) ->
    Rx.

%% Handles the end of messages. Those that wait can still be received. The receiver that has waited
%% longest gets the reason. Who has received up to the end of a stream need not be told more.
-spec end_with(curve_tun_nif:reason(), receivers()) -> receivers().
end_with(_Reason, #receivers{active = false, finished = told, ended = no} = Rx) ->
    Rx#receivers{ended = told};
end_with(Reason, #receivers{waiting = Waiting, ended = no} = Rx) ->
    Tell = fun(Receiver, Now) -> reply(Receiver, {error, untold(Now)}), Now#receivers{ended = told} end,
    lists:foldl(Tell, Rx#receivers{waiting = queue:new(), ended = {closed, Reason}}, queue:to_list(Waiting));
end_with(_Reason, Rx) ->
    Rx.

%% Drops what waits, and tells nobody of the end but those who wait for more.
-spec drop(receivers()) -> receivers().
drop(#receivers{waiting = Waiting} = Rx) ->
    _ = [reply(Receiver, {error, closed}) || Receiver <- queue:to_list(Waiting)],
    Rx#receivers{messages = queue:new(), bytes = 0, size = 0, waiting = queue:new(), active = false, ended = told}.

%% Tells an active controller of the end, once it has received all messages.
-spec tell_end(controller(), receivers()) -> receivers().
tell_end({Pid, Socket} = Controller, #receivers{active = Active, bytes = 0, finished = untold} = Rx) when Active =/= false ->
    Pid ! {curve_tun_end, Socket},
    tell_end(Controller, Rx#receivers{finished = told});
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
