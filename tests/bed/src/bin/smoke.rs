//! .
use cache_registry_bed::*;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let mut bed = Bed::start(Options::default()).await?;
    println!("up {:?} {}", t.elapsed(), bed.folder().display());
    let image = cache_registry_upstream::Image::hello(b"x")?;
    bed.upstream.add("library/hello", "1.0", &image).await?;
    for n in [&bed.a, &bed.b] {
        let r = "localhost:7439/library/hello:1.0".to_owned();
        println!("{:?}", n.pull(&r, 2).await);
        println!("{:?}", n.images.status(&r).await);
    }
    println!("{:?}", bed.a.get("/v2/library/hello/manifests/1.0").await);println!("{:?}", bed.upstream.traffic().await);println!("{}", bed.state().await.len());
    if std::env::args().count() > 1 { println!("kept: kill {}", bed.keep()?); }
    Ok(())
}
