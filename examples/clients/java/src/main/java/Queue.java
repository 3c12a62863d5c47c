import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import net.dv8tion.jda.api.utils.SessionControllerAdapter;

/** Lets each shard identify when a gateway-queue server grants it. */
final class Queue extends SessionControllerAdapter {
    private final HttpClient client = HttpClient.newHttpClient();
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private final Map<SessionConnectNode, Future<?>> waiting = new ConcurrentHashMap<>();

    @Override
    public void appendSession(SessionConnectNode node) {
        waiting.put(node, threads.submit(() -> connect(node)));
    }

    @Override
    public void removeSession(SessionConnectNode node) {
        Future<?> wait = waiting.remove(node);
        if (wait != null) {
            wait.cancel(true);
        }
    }

    private Void connect(SessionConnectNode node) throws InterruptedException {
        while (true) {
            while (!isGranted(node.getShardInfo().getShardId())) {
                Thread.sleep(1000);
            }
            if (!node.isReconnect()) {
                Thread.sleep(2000); // as JDA itself does after the grant of a lost session
            }
            try {
                node.run(true); // true: return before the shard is ready
                waiting.remove(node);
                return null;
            } catch (IllegalStateException failed) {
                // Discord could not be reached: ask again.
            }
        }
    }

    private boolean isGranted(int shard) throws InterruptedException {
        URI url = URI.create("http://my-bot/?shard=" + shard + "&wait=60");
        HttpRequest request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(75)).build();
        try {
            return client.send(request, BodyHandlers.discarding()).statusCode() == 200;
        } catch (IOException failed) {
            return false;
        }
    }
}
