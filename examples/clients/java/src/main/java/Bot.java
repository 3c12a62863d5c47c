import net.dv8tion.jda.api.events.session.ReadyEvent;
import net.dv8tion.jda.api.hooks.ListenerAdapter;
import net.dv8tion.jda.api.sharding.DefaultShardManagerBuilder;

public final class Bot extends ListenerAdapter {
    public static void main(String[] arguments) {
        DefaultShardManagerBuilder.createLight(System.getenv("DISCORD_TOKEN"))
            .setShardsTotal(4)
            .setShards(0, 3)
            .setSessionController(new Queue())
            .addEventListeners(new Bot())
            .build();
    }

    @Override
    public void onReady(ReadyEvent event) {
        System.out.println("shard " + event.getJDA().getShardInfo().getShardId() + " is ready");
    }
}
