defmodule Echo do
  @moduledoc "Says a word to itself through a tunnel: `mix run -e Echo.main`."

  def main do
    {:ok, key} = :curve_tun.public_key()
    :ok = :curve_tun_simple_registry.register({127, 0, 0, 1}, key)
    {:ok, listener} = :curve_tun.listen(0, ip: {127, 0, 0, 1})
    {:ok, {_, port}} = :curve_tun.sockname(listener)

    spawn_link(fn ->
      {:ok, server} = :curve_tun.accept(listener)
      :ok = :curve_tun.send(server, :curve_tun.recv(server))
      {:error, :closed} = :curve_tun.recv(server)
    end)

    {:ok, client} = :curve_tun.connect({127, 0, 0, 1}, port, key: key)
    :ok = :curve_tun.send(client, "hello from Mix")
    IO.puts(:curve_tun.recv(client))
    :ok = :curve_tun.close(client)
  end
end
