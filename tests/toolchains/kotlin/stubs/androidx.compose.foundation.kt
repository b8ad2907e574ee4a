package androidx.compose.foundation

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.graphics.ImageBitmap
import androidx.compose.ui.layout.ContentScale

class ScrollState

@Composable
fun rememberScrollState(): ScrollState = TODO()

fun Modifier.horizontalScroll(state: ScrollState): Modifier = TODO("$this $state")

@Composable
fun Image(
    bitmap: ImageBitmap,
    contentDescription: String?,
    modifier: Modifier = Modifier,
    contentScale: ContentScale = ContentScale.Fit,
): Unit = TODO("$bitmap $contentDescription $modifier $contentScale")
